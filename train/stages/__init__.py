"""The stages of training, one loop for all: pretrain, adapt, fine-tune, supervised."""
