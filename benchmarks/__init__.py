"""What meshsigner costs and how fast it is: load driver, micro servers and scenarios."""
