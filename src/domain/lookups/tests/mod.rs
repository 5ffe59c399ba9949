mod answers;
mod lanes;
mod outages;
mod properties;
mod timing;
mod world;
