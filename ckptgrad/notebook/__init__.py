"""IPython: `%load_ext ckptgrad` gives the magics `%ckptgrad` and `%%ckptgrad`."""
