-- Searching members, in a migration of its own: it takes its time with many members, and locks no organization meanwhile.

-- Letters that Unicode does not take apart are folded from this version on (`text::fold`); what is there is folded alike.
UPDATE membership SET
    sort_name = replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(sort_name, 'ł', 'l'), 'ø', 'o'), 'đ', 'd'), 'ð', 'd'), 'ħ', 'h'), 'ı', 'i'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), 'ς', 'σ'),
    search_text = replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(search_text, 'ł', 'l'), 'ø', 'o'), 'đ', 'd'), 'ð', 'd'), 'ħ', 'h'), 'ı', 'i'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), 'ς', 'σ')
WHERE search_text LIKE '%ł%' OR search_text LIKE '%ø%' OR search_text LIKE '%đ%' OR search_text LIKE '%ð%' OR search_text LIKE '%ħ%' OR search_text LIKE '%ı%' OR search_text LIKE '%ß%' OR search_text LIKE '%æ%' OR search_text LIKE '%œ%' OR search_text LIKE '%þ%' OR search_text LIKE '%ς%';
UPDATE invitation SET
    search_text = replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(search_text, 'ł', 'l'), 'ø', 'o'), 'đ', 'd'), 'ð', 'd'), 'ħ', 'h'), 'ı', 'i'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), 'ς', 'σ')
WHERE search_text LIKE '%ł%' OR search_text LIKE '%ø%' OR search_text LIKE '%đ%' OR search_text LIKE '%ð%' OR search_text LIKE '%ħ%' OR search_text LIKE '%ı%' OR search_text LIKE '%ß%' OR search_text LIKE '%æ%' OR search_text LIKE '%œ%' OR search_text LIKE '%þ%' OR search_text LIKE '%ς%';

-- Searching. SQLite walks the index in the list's own order, and each has in it all that members are searched and filtered by, so
-- that no row is fetched which is not shown.
{sqlite} DROP INDEX membership_by_join;
{sqlite} DROP INDEX membership_by_name;
{sqlite} DROP INDEX membership_by_email;
{sqlite} DROP INDEX membership_by_sign_in;
{sqlite} DROP INDEX membership_by_role;
{sqlite} DROP INDEX membership_suspended;
{sqlite} CREATE INDEX membership_by_join ON membership
{sqlite}     (organization_id, joined_at, user_id, role, suspended_at, search_text);
{sqlite} CREATE INDEX membership_by_name ON membership
{sqlite}     (organization_id, sort_name, user_id, role, suspended_at, search_text);
{sqlite} CREATE INDEX membership_by_email ON membership
{sqlite}     (organization_id, email_normalized, user_id, role, suspended_at, search_text);
{sqlite} CREATE INDEX membership_by_sign_in ON membership
{sqlite}     (organization_id, last_sign_in_at, user_id, role, suspended_at, search_text);
{sqlite} CREATE INDEX membership_by_role ON membership
{sqlite}     (organization_id, role, joined_at, user_id, suspended_at, search_text);
{sqlite} CREATE INDEX membership_suspended ON membership
{sqlite}     (organization_id, joined_at, user_id, role, search_text) WHERE suspended_at IS NOT NULL;
-- PostgreSQL finds rare texts by their trigrams, among those of one organization alone, and walks the list for frequent ones.
-- Where the extensions may not be made, searching works by walking alone.
{postgres} DO $$ BEGIN
{postgres}     CREATE EXTENSION IF NOT EXISTS pg_trgm;
{postgres} EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
{postgres}     RAISE WARNING 'no extension pg_trgm: searching members walks them all; make it, and the index, by hand';
{postgres} END $$;
{postgres} DO $$ BEGIN
{postgres}     CREATE EXTENSION IF NOT EXISTS btree_gin;
{postgres} EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
{postgres}     RAISE WARNING 'no extension btree_gin: the index for searching members is of all organizations together';
{postgres} END $$;
{postgres} DO $$ BEGIN
{postgres}     IF NOT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm') THEN
{postgres}         RETURN;
{postgres}     END IF;
{postgres}     IF EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'btree_gin') THEN
{postgres}         CREATE INDEX membership_search ON membership USING gin (organization_id, search_text gin_trgm_ops);
{postgres}     ELSE
{postgres}         CREATE INDEX membership_search ON membership USING gin (search_text gin_trgm_ops);
{postgres}     END IF;
{postgres} EXCEPTION WHEN undefined_object OR feature_not_supported THEN
{postgres}     RAISE WARNING 'no index for searching members: make membership_search by hand';
{postgres} END $$;
