-- The tables of the notes service, the same on every shard; `notes --migrate` runs this on each.
-- It may be run again, and by several at a time: what is there already stays.
--
-- Each key begins with the tenant, and so does each reference: a row cannot point at another
-- tenant's. The names of constraints and unique indexes are what status.c finds a field by.

begin;
set local client_min_messages = warning;
select pg_advisory_xact_lock(1852797029);

create schema if not exists notes;

create table if not exists notes.account (
    tenant        text        not null,
    id            uuid        not null default gen_random_uuid(),
    email         text        not null,
    password_hash text        not null,
    created_at    timestamptz not null default now(),
    constraint account_pkey primary key (tenant, id),
    constraint account_email_check check (email ~ '^[^@\s]+@[^@\s]+$' and length(email) <= 254)
);
create unique index if not exists account_email_key on notes.account (tenant, lower(email));

-- Who is logged in. Of a token only its hash is kept: who reads this table cannot use it.
create table if not exists notes.token (
    tenant     text        not null,
    hash       bytea       not null,
    account    uuid        not null,
    expires_at timestamptz not null,
    constraint token_pkey primary key (tenant, hash),
    constraint token_account_fkey foreign key (tenant, account) references notes.account
);
create index if not exists token_account on notes.token (tenant, account);

create table if not exists notes.note (
    tenant     text        not null,
    id         uuid        not null default gen_random_uuid(),
    slug       text        not null,
    title      text        not null,
    body       text        not null default '',
    parent     uuid,
    author     uuid        not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    deleted_by uuid,
    -- Not to be stemmed: a tenant's language is not known here.
    search     tsvector generated always as (to_tsvector('simple', title || ' ' || body)) stored,
    constraint note_pkey primary key (tenant, id),
    constraint note_slug_check check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(slug) <= 80),
    constraint note_title_check check (length(title) between 1 and 200),
    constraint note_body_check check (length(body) <= 20000),
    constraint note_deleted_check check ((deleted_at is null) = (deleted_by is null)),
    constraint note_parent_fkey foreign key (tenant, parent) references notes.note,
    constraint note_author_fkey foreign key (tenant, author) references notes.account,
    constraint note_deleted_by_fkey foreign key (tenant, deleted_by) references notes.account
);
-- A deleted note gives its slug free.
create unique index if not exists note_slug_key on notes.note (tenant, slug)
    where deleted_at is null;
-- The order of pages.
create index if not exists note_page on notes.note (tenant, created_at desc, id desc)
    where deleted_at is null;
create index if not exists note_search on notes.note using gin (search);
create index if not exists note_parent on notes.note (tenant, parent) where parent is not null;

commit;
