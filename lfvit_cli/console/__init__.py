"""How answers look in a terminal: tables, progress, options, advice on errors."""
