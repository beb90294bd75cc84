"""One command for one GPU or TPU: what everything takes there, in under eight minutes."""
