"""The command words, a module each: arguments in, one call, text out."""
