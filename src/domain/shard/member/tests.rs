mod api;
mod life;
mod random;
mod sim;
