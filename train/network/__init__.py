"""The UNet, Eqs. 6 to 10 as its losses, the machine it runs on, and the checkpoint that keeps it."""
