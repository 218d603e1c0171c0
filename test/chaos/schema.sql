-- What the driver works on, once a shard. Nothing is unique that must not be doubled by mistake:
-- a doubled entry shall be seen, not refused.
create schema chaos;
create table chaos.list (tenant text, key bigint, n bigint not null, primary key (tenant, key));
create table chaos.log (tenant text, key bigint, seq bigint, uid text, val text not null);
create index on chaos.log (tenant, key, seq);
create table chaos.reg (tenant text, key bigint, ver bigint not null, val text not null,
                        primary key (tenant, key));
create table chaos.reg_history (tenant text, key bigint, ver bigint, uid text);
create table chaos.counter (tenant text primary key, n bigint not null);
create table chaos.account (tenant text, key bigint, amount bigint not null,
                            primary key (tenant, key));
create table chaos.ledger (tenant text, uid text, key bigint, amount bigint not null);
create table chaos.parent (id bigint primary key);
create table chaos.child (tenant text, uid text,
                          parent bigint references chaos.parent deferrable initially deferred);
