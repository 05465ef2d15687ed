"""What is due, and when: due times, ready queues, throttles, budget. Read manager.py first."""
