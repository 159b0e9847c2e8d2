"""One module for each group of commands. Heavy imports happen inside the commands, so that help answers at once."""
