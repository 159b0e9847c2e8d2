"""What a recorder writes down beside sound: acceleration, depth, speed, temperature."""
