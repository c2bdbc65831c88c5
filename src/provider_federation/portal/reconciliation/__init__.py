"""The three books held against each other, line by line: the portal's ledger, each client's instance, the
provider's Stripe account (money rule 15). What differs is a row with a class; where it is safe, it is repaired.
"""
