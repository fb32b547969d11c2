-- What the job `popularity` has counted, per product id and not per product: events may be there before their product.
CREATE TABLE penstock.popularity (
    product_id text COLLATE "C" PRIMARY KEY,
    -- Binary logarithm of the decayed weight; null: nothing that counts.
    score      double precision,
    newest     timestamptz NOT NULL
);
