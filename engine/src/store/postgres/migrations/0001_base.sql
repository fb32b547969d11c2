CREATE TABLE penstock.meta (
    name  text PRIMARY KEY,
    value text NOT NULL
);
INSERT INTO penstock.meta VALUES ('store_id', replace(gen_random_uuid()::text, '-', ''));

-- One row. Written by whoever changes products, last thing before the commit: so the revisions of two transactions
-- are in the order of their commits, and who has seen a revision has seen everything before it.
CREATE TABLE penstock.catalog (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision  bigint NOT NULL DEFAULT 0,
    -- Changes up to here are not in product_changes (any more).
    forgotten bigint NOT NULL DEFAULT 0
);
INSERT INTO penstock.catalog DEFAULT VALUES;

CREATE TABLE penstock.products (
    -- Addresses the product in indexes and features; never given to another one.
    ordinal     bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY
                CHECK (ordinal BETWEEN 0 AND 4294967295),
    product_id  text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(product_id) BETWEEN 1 AND 256),
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    category    text NOT NULL DEFAULT '',
    brand       text NOT NULL DEFAULT '',
    price       double precision CHECK (price >= 0 AND price < 'Infinity'),
    created_at  timestamptz,
    -- The shop's own figure.
    popularity  double precision CHECK (popularity >= 0 AND popularity < 'Infinity'),
    -- Binary logarithm of the decayed weight of the product's events; see the job `popularity`.
    popularity_score double precision,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX products_by_category ON penstock.products (category);
CREATE INDEX products_by_popularity ON penstock.products (popularity_score DESC NULLS LAST, ordinal);
CREATE INDEX products_by_update ON penstock.products (updated_at);

-- Of each product the revision that changed it last: who knows revision r needs those after it. Deleted products stay
-- until they are forgotten.
CREATE TABLE penstock.product_changes (
    ordinal    bigint PRIMARY KEY,
    revision   bigint NOT NULL,
    product_id text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX product_changes_by_revision ON penstock.product_changes (revision);
CREATE INDEX product_changes_by_time ON penstock.product_changes (at);

CREATE FUNCTION penstock.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- The next revision, once a transaction.
CREATE FUNCTION penstock.revise() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    -- All that a transaction changes is one revision. Kept with the transaction: numbers of transactions begin anew where
    -- a database is restored from a dump.
    IF current_setting('penstock.revised', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        UPDATE penstock.catalog SET revision = revision + 1;
        PERFORM set_config('penstock.revised', pg_current_xact_id()::text, true);
        PERFORM pg_notify('penstock_products', '');
    END IF;
    RETURN (SELECT revision FROM penstock.catalog);
END $$;

CREATE FUNCTION penstock.note_product() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed penstock.products;
BEGIN
    changed := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    INSERT INTO penstock.product_changes (revision, ordinal, product_id)
        VALUES (penstock.revise(), changed.ordinal, changed.product_id)
        ON CONFLICT (ordinal) DO UPDATE SET revision = excluded.revision, at = excluded.at;
    IF TG_OP = 'UPDATE' AND OLD.product_id <> NEW.product_id THEN
        RAISE EXCEPTION 'a product keeps its product_id: delete % and insert %', OLD.product_id, NEW.product_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION penstock.note_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM penstock.revise();
    UPDATE penstock.catalog SET forgotten = revision;
    RETURN NULL;
END $$;

CREATE TRIGGER touch BEFORE UPDATE OF product_id, name, description, category, brand, price, created_at, popularity
    ON penstock.products FOR EACH ROW EXECUTE FUNCTION penstock.touch();
-- Deferred to the commit, so that the row of penstock.catalog is locked for a moment only and always last. Imports
-- note what they did themselves.
CREATE CONSTRAINT TRIGGER inserted AFTER INSERT ON penstock.products DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('penstock.bulk', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION penstock.note_product();
CREATE CONSTRAINT TRIGGER deleted AFTER DELETE ON penstock.products DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('penstock.bulk', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION penstock.note_product();
CREATE CONSTRAINT TRIGGER updated
    AFTER UPDATE OF product_id, name, description, category, brand, price, created_at, popularity
    ON penstock.products DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('penstock.bulk', true) IS DISTINCT FROM 'on'
        AND (OLD.product_id, OLD.name, OLD.description, OLD.category, OLD.brand, OLD.price, OLD.created_at, OLD.popularity)
            IS DISTINCT FROM
            (NEW.product_id, NEW.name, NEW.description, NEW.category, NEW.brand, NEW.price, NEW.created_at, NEW.popularity))
    EXECUTE FUNCTION penstock.note_product();
CREATE TRIGGER truncated AFTER TRUNCATE ON penstock.products EXECUTE FUNCTION penstock.note_truncate();

CREATE TYPE penstock.event_type AS ENUM ('view', 'add_to_cart', 'purchase');

CREATE TABLE penstock.events (
    event_id    text COLLATE "C" NOT NULL CHECK (octet_length(event_id) BETWEEN 1 AND 512),
    user_id     text COLLATE "C" NOT NULL CHECK (octet_length(user_id) BETWEEN 1 AND 512),
    product_id  text COLLATE "C" NOT NULL CHECK (octet_length(product_id) BETWEEN 1 AND 512),
    event_type  penstock.event_type NOT NULL,
    "timestamp" timestamptz NOT NULL,
    source      text NOT NULL DEFAULT '',
    -- The transaction that stored it: jobs read what they have not seen.
    stored_by   bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint
) PARTITION BY RANGE ("timestamp");
CREATE INDEX events_by_user ON penstock.events (user_id, "timestamp" DESC);
CREATE INDEX events_by_user_product ON penstock.events (user_id, product_id);
CREATE INDEX events_by_time ON penstock.events ("timestamp");
CREATE INDEX events_by_transaction ON penstock.events USING brin (stored_by);
-- What has no month of its own (yet).
CREATE TABLE penstock.events_other PARTITION OF penstock.events DEFAULT;

-- A unique index of a partitioned table would need the time in it, and the same event may be sent again with
-- another one. Rows go with their events.
CREATE TABLE penstock.event_ids (
    event_id    text COLLATE "C" PRIMARY KEY,
    "timestamp" timestamptz NOT NULL
);
CREATE INDEX event_ids_by_time ON penstock.event_ids USING brin ("timestamp");

CREATE FUNCTION penstock.count_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO penstock.event_ids VALUES (NEW.event_id, NEW."timestamp") ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN NEW;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_once BEFORE INSERT ON penstock.events FOR EACH ROW
    WHEN (current_setting('penstock.bulk', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION penstock.count_once();

-- Tells who has new events, by whom: '<application>\n<JSON array of user ids, or null: anybody>'.
CREATE FUNCTION penstock.tell_users() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    who text := current_setting('application_name') || E'\n';
    ids text[];
    id text;
    line text := '';
BEGIN
    SELECT array_agg(user_id) INTO ids FROM (SELECT DISTINCT user_id FROM added LIMIT 1001) AS few;
    IF ids IS NULL THEN
        RETURN NULL;
    END IF;
    IF cardinality(ids) > 1000 THEN
        PERFORM pg_notify('penstock_users', who || 'null');
        RETURN NULL;
    END IF;
    -- A message has less than 8,000 bytes.
    FOREACH id IN ARRAY ids LOOP
        IF octet_length(line) > 6000 THEN
            PERFORM pg_notify('penstock_users', who || '[' || line || ']');
            line := '';
        END IF;
        line := line || CASE WHEN line = '' THEN '' ELSE ',' END || to_json(id)::text;
    END LOOP;
    PERFORM pg_notify('penstock_users', who || '[' || line || ']');
    RETURN NULL;
END $$;
CREATE TRIGGER tell_users AFTER INSERT ON penstock.events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION penstock.tell_users();

CREATE TABLE penstock.users (
    user_id    text COLLATE "C" PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attributes jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE penstock.user_preferences (
    user_id    text COLLATE "C" NOT NULL,
    name       text NOT NULL,
    value      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, name)
);
CREATE TABLE penstock.experiment_exposures (
    experiment  text NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    variant     text NOT NULL,
    first_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (experiment, user_id)
);
CREATE INDEX experiment_exposures_by_variant ON penstock.experiment_exposures (experiment, variant);

CREATE TABLE penstock.feature_values (
    entity      text NOT NULL CHECK (entity IN ('product', 'user')),
    entity_id   text COLLATE "C" NOT NULL,
    name        text NOT NULL,
    version     integer NOT NULL,
    value       jsonb NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (entity, entity_id, name)
);
CREATE INDEX feature_values_by_name ON penstock.feature_values (name, computed_at);

CREATE TABLE penstock.models (
    kind        text NOT NULL,
    version     text NOT NULL,
    manifest    jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    promoted_at timestamptz,
    PRIMARY KEY (kind, version)
);

-- What a job remembers from run to run, and its runs.
CREATE TABLE penstock.job_state (
    job   text PRIMARY KEY,
    state jsonb NOT NULL
);
CREATE TABLE penstock.job_runs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job         text NOT NULL,
    instance    text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    outcome     text,
    detail      jsonb
);
CREATE INDEX job_runs_by_job ON penstock.job_runs (job, started_at DESC);

-- Written every second, so that an idle shop's replicas show that they follow.
CREATE TABLE penstock.heartbeat (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    beat bigint NOT NULL DEFAULT 0,
    at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);
INSERT INTO penstock.heartbeat DEFAULT VALUES;
