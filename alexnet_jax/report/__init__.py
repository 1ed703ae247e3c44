"""One self-contained HTML file that shows a run, or several side by side."""
