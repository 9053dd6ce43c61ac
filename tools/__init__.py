"""What maintainers run now and then: reference pages, cost figures, the picture of the dashboard."""
