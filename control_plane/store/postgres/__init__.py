"""The store on PostgreSQL: one aggregate a module, SQL as named constants, the database's clock as the only clock."""
