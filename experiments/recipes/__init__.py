"""Recipes: other people's sampling loops made parallel, each on a page, with the two lines that change."""
