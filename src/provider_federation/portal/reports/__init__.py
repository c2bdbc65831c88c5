"""What the provider earns and is owed: billed, paid, collected, outstanding, overdue; MRR and its movement; what
AI usage cost and brought. Reads only. Every total carries its coverage.
"""
