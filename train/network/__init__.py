"""The UNet, Eqs. 6 to 11 as its losses, the machine it runs on, and the checkpoint that keeps it."""
