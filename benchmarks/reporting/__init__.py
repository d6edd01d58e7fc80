"""What is made of results: files, a page to look at, tables, comparisons."""
