mod life;
mod random;
mod sim;
