CREATE TABLE effects (id uuid PRIMARY KEY, key text NOT NULL);
