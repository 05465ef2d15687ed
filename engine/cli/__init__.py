"""The `postrider` command. main.py has the list; one module per family of commands."""
