"""What happens on the wire: delays, dead-man, faults at random, hours of closed loop, two hosts."""
