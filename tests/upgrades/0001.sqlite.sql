BEGIN TRANSACTION;
CREATE TABLE agents (
    agent_id TEXT PRIMARY KEY,
    agent    BLOB NOT NULL,
    seen_at  REAL,
    load     REAL,
    draining INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO "agents" VALUES('agent-1',X'7B226167656E745F6964223A226167656E742D31222C22656E64706F696E74223A22687474703A2F2F3132372E302E302E313A3338303639222C226361706162696C6974696573223A5B22656D626564225D2C226C6F636174696F6E223A22222C2273697465223A6E756C6C2C226D6F64656C5F76657273696F6E223A6E756C6C2C226D61785F636F6E63757272656E6379223A382C22636F7374223A302E302C2271756172616E74696E6564223A66616C73657D',NULL,NULL,NULL);
INSERT INTO "agents" VALUES('agent-2',X'7B226167656E745F6964223A226167656E742D32222C22656E64706F696E74223A22687474703A2F2F3132372E302E302E313A3436333139222C226361706162696C6974696573223A5B22696E646578696E67225D2C226C6F636174696F6E223A22222C2273697465223A6E756C6C2C226D6F64656C5F76657273696F6E223A6E756C6C2C226D61785F636F6E63757272656E6379223A382C22636F7374223A302E302C2271756172616E74696E6564223A66616C73657D',NULL,NULL,NULL);
INSERT INTO "agents" VALUES('agent-5',X'7B226167656E745F6964223A226167656E742D35222C22656E64706F696E74223A6E756C6C2C226361706162696C6974696573223A5B22616E616C797A655F6865617679225D2C226C6F636174696F6E223A22222C2273697465223A6E756C6C2C226D6F64656C5F76657273696F6E223A6E756C6C2C226D61785F636F6E63757272656E6379223A382C22636F7374223A302E302C2271756172616E74696E6564223A66616C73657D',NULL,NULL,NULL);
CREATE TABLE api_keys (
    key_id  TEXT PRIMARY KEY,
    api_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE audit_entries (
    position        INTEGER PRIMARY KEY,
    writer          TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    audit_id        TEXT NOT NULL,
    event           TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    task_id         TEXT,
    case_id         TEXT,
    router_decision TEXT,
    agent_id        TEXT,
    model_version   TEXT,
    consent_id      TEXT,
    status          TEXT,
    attempt         INTEGER,
    reason          TEXT,
    detail          TEXT,
    principal       TEXT,
    prev_hash       TEXT NOT NULL,
    entry_hash      TEXT NOT NULL
) STRICT;
INSERT INTO "audit_entries" VALUES(1,'main',1,'audit-main-1','agent_registered','2026-11-25T01:28:01.268366Z',NULL,NULL,NULL,'agent-1',NULL,NULL,NULL,NULL,NULL,NULL,'anonymous','0000000000000000000000000000000000000000000000000000000000000000','5c8f5ddd59043b3bb631480cb8e67b7f78298fcd041d0774d13392c9b0c509c0');
INSERT INTO "audit_entries" VALUES(2,'main',2,'audit-main-2','agent_registered','2026-11-25T01:28:01.272061Z',NULL,NULL,NULL,'agent-2',NULL,NULL,NULL,NULL,NULL,NULL,'anonymous','5c8f5ddd59043b3bb631480cb8e67b7f78298fcd041d0774d13392c9b0c509c0','5d9f4def90225f00ef756a54eb573d17aa0bb7636b66466d55da22b9c62311ca');
INSERT INTO "audit_entries" VALUES(3,'main',3,'audit-main-3','agent_registered','2026-11-25T01:28:01.274533Z',NULL,NULL,NULL,'agent-4',NULL,NULL,NULL,NULL,NULL,NULL,'anonymous','5d9f4def90225f00ef756a54eb573d17aa0bb7636b66466d55da22b9c62311ca','a6186d3efc250ba5794ef514557416e287e11250f588acea070e0bc05f192550');
INSERT INTO "audit_entries" VALUES(4,'main',4,'audit-main-4','accepted','2026-11-25T01:28:01.276904Z','task-295818c2b71ace4d11dd6008633f1435','case-1','{"candidates":[{"agent_id":"agent-1","score":0.0},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-1"],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','a6186d3efc250ba5794ef514557416e287e11250f588acea070e0bc05f192550','cac4f3356b35954a895b08aac4247d923b0ad7293da1107b2a51bbb7dd8bf43d');
INSERT INTO "audit_entries" VALUES(5,'main',5,'audit-main-5','accepted','2026-11-25T01:28:01.279748Z','task-66de749284c40afa9e28e36ea576b459','case-1','{"candidates":[{"agent_id":"agent-1","score":0.0},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-1"],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','cac4f3356b35954a895b08aac4247d923b0ad7293da1107b2a51bbb7dd8bf43d','cb9c7428a6cf272b7feb8c670421c93a8703341ab3a10ded7fea472895ff3d72');
INSERT INTO "audit_entries" VALUES(6,'main',6,'audit-main-6','leased','2026-11-25T01:28:01.280496Z','task-295818c2b71ace4d11dd6008633f1435','case-1','{"candidates":[{"agent_id":"agent-1","score":0.0},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-1"],"refused":false}','agent-1',NULL,NULL,'leased',1,NULL,NULL,NULL,'cb9c7428a6cf272b7feb8c670421c93a8703341ab3a10ded7fea472895ff3d72','69235a5ba5037c56cefac08ae60adbe5cbf5ff99b082b72d5d08851cf580403c');
INSERT INTO "audit_entries" VALUES(7,'main',7,'audit-main-7','leased','2026-11-25T01:28:01.282562Z','task-66de749284c40afa9e28e36ea576b459','case-1','{"candidates":[{"agent_id":"agent-1","score":0.125},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-1"],"refused":false}','agent-1',NULL,NULL,'leased',1,NULL,NULL,NULL,'69235a5ba5037c56cefac08ae60adbe5cbf5ff99b082b72d5d08851cf580403c','f9a5634427d45914595ed6653eca11b3e1af5b7727f582ae21c1b7f49b042103');
INSERT INTO "audit_entries" VALUES(8,'main',8,'audit-main-8','accepted','2026-11-25T01:28:01.283207Z','task-cb88e48aea3083273cd226f69f7dd6c1','case-1','{"candidates":[{"agent_id":"agent-1","score":0.25},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-1"],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','f9a5634427d45914595ed6653eca11b3e1af5b7727f582ae21c1b7f49b042103','80044b270636240e2107c7cdada4c4241fe659c8d3d130c4575d72c119bddc83');
INSERT INTO "audit_entries" VALUES(9,'main',9,'audit-main-9','succeeded','2026-11-25T01:28:01.286165Z','task-295818c2b71ace4d11dd6008633f1435','case-1',NULL,'agent-1',NULL,NULL,'succeeded',1,NULL,'{"result_sha256":"ace9288a3ff79a9132b9ddf621bc19354ffb04b3eacb17486ad6dc4d51303961"}',NULL,'80044b270636240e2107c7cdada4c4241fe659c8d3d130c4575d72c119bddc83','6d5cec20bf8c361e72fb35e072b0174098e1580974e5cad644c7a8398c52b286');
INSERT INTO "audit_entries" VALUES(10,'main',10,'audit-main-10','succeeded','2026-11-25T01:28:01.288247Z','task-66de749284c40afa9e28e36ea576b459','case-1',NULL,'agent-1',NULL,NULL,'succeeded',1,NULL,'{"result_sha256":"ace9288a3ff79a9132b9ddf621bc19354ffb04b3eacb17486ad6dc4d51303961"}',NULL,'6d5cec20bf8c361e72fb35e072b0174098e1580974e5cad644c7a8398c52b286','46c73eca76e8a27f3e6faa9565d60523b77ac79048a1432cccf67b4c7639862f');
INSERT INTO "audit_entries" VALUES(11,'main',11,'audit-main-11','accepted','2026-11-25T01:28:01.289030Z','task-63492328a32aac9901094210be0e1153','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","score":0.0},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-2"],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','46c73eca76e8a27f3e6faa9565d60523b77ac79048a1432cccf67b4c7639862f','216a8c65f76493140bb1db5de167d9cce6ece978338140c89ce3c1ee91a50654');
INSERT INTO "audit_entries" VALUES(12,'main',12,'audit-main-12','leased','2026-11-25T01:28:01.289565Z','task-cb88e48aea3083273cd226f69f7dd6c1','case-1','{"candidates":[{"agent_id":"agent-1","score":0.25},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-1"],"refused":false}','agent-1',NULL,NULL,'leased',1,NULL,NULL,NULL,'216a8c65f76493140bb1db5de167d9cce6ece978338140c89ce3c1ee91a50654','78b37e80528f7e66e91bdea84876418acb4f7c3cd71a39903b02f64d4e66c99b');
INSERT INTO "audit_entries" VALUES(13,'main',13,'audit-main-13','succeeded','2026-11-25T01:28:01.292775Z','task-cb88e48aea3083273cd226f69f7dd6c1','case-1',NULL,'agent-1',NULL,NULL,'succeeded',1,NULL,'{"result_sha256":"ace9288a3ff79a9132b9ddf621bc19354ffb04b3eacb17486ad6dc4d51303961"}',NULL,'78b37e80528f7e66e91bdea84876418acb4f7c3cd71a39903b02f64d4e66c99b','fce4a4b34d7a8d9f8a102f3dddb33b6df779f3ff6df5c7851be6e4c0dfce5386');
INSERT INTO "audit_entries" VALUES(14,'main',14,'audit-main-14','leased','2026-11-25T01:28:01.294149Z','task-63492328a32aac9901094210be0e1153','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","score":0.0},{"agent_id":"agent-4","excluded":"capability"}],"ranking":["agent-2"],"refused":false}','agent-2',NULL,NULL,'leased',1,NULL,NULL,NULL,'fce4a4b34d7a8d9f8a102f3dddb33b6df779f3ff6df5c7851be6e4c0dfce5386','d527d6778c6e294f196368fcb55ae8a16993562e2c9275ce1b18288fd6f30048');
INSERT INTO "audit_entries" VALUES(15,'main',15,'audit-main-15','dead','2026-11-25T01:28:01.299918Z','task-63492328a32aac9901094210be0e1153','case-1',NULL,'agent-2',NULL,NULL,'dead',1,'agent_error_permanent',NULL,NULL,'d527d6778c6e294f196368fcb55ae8a16993562e2c9275ce1b18288fd6f30048','cc83edc2faeba95c17e51a6dbbda91301e22bc56eb194f005130490c7da58d61');
INSERT INTO "audit_entries" VALUES(16,'main',16,'audit-main-16','accepted','2026-11-25T01:28:01.302120Z','task-c17256b92934ac94e93e8127a76ded75','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-4","score":0.0}],"ranking":["agent-4"],"refused":false}','agent-4',NULL,NULL,'leased',1,NULL,NULL,'anonymous','cc83edc2faeba95c17e51a6dbbda91301e22bc56eb194f005130490c7da58d61','c6a19e55ca9251365a337cabf725af4777ff8d05a03f4daae028dccad6e5de19');
INSERT INTO "audit_entries" VALUES(17,'main',17,'audit-main-17','retry_scheduled','2026-11-25T01:28:01.304176Z','task-c17256b92934ac94e93e8127a76ded75','case-1',NULL,'agent-4',NULL,NULL,'retry_wait',1,'busy',NULL,NULL,'c6a19e55ca9251365a337cabf725af4777ff8d05a03f4daae028dccad6e5de19','5bc1ab1403036f7b9e03ec319500435a2f54c6fef5f09e25f9df4f740893bd21');
INSERT INTO "audit_entries" VALUES(18,'main',18,'audit-main-18','agent_removed','2026-11-25T01:28:01.307595Z',NULL,NULL,NULL,'agent-4',NULL,NULL,NULL,NULL,NULL,NULL,'anonymous','5bc1ab1403036f7b9e03ec319500435a2f54c6fef5f09e25f9df4f740893bd21','cb36730ed9bb7ed01d117fd527d3f53849c8b901bf82f724499c5dfffe44e842');
INSERT INTO "audit_entries" VALUES(19,'main',19,'audit-main-19','accepted','2026-11-25T01:28:01.309250Z','task-2710972f77404140e4dbbb5ce2622d23','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"}],"ranking":[],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','cb36730ed9bb7ed01d117fd527d3f53849c8b901bf82f724499c5dfffe44e842','8d10ecc0f2741af13a3e2206c3b6f9673b7947b25b808dfb21d21fd61da5d8e2');
INSERT INTO "audit_entries" VALUES(20,'main',20,'audit-main-20','cancelled','2026-11-25T01:28:01.311196Z','task-2710972f77404140e4dbbb5ce2622d23','case-1',NULL,NULL,NULL,NULL,'cancelled',0,'cancelled',NULL,'anonymous','8d10ecc0f2741af13a3e2206c3b6f9673b7947b25b808dfb21d21fd61da5d8e2','c4db53f57192131e7ac90854f49d0211e133f0c88f9ce5508aec9a23fd27648d');
INSERT INTO "audit_entries" VALUES(21,'main',21,'audit-main-21','accepted','2026-11-25T01:28:01.312759Z','task-59d32c513c8d892627ed76855bf749a3','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"}],"ranking":[],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','c4db53f57192131e7ac90854f49d0211e133f0c88f9ce5508aec9a23fd27648d','cf54bbd68a4cd768bd2c69a6c1d39cca76ff087b9180c0b6557517977e30fa59');
INSERT INTO "audit_entries" VALUES(22,'main',22,'audit-main-22','expired','2026-11-25T01:28:02.272976Z','task-59d32c513c8d892627ed76855bf749a3','case-1',NULL,NULL,NULL,NULL,'expired',0,'deadline',NULL,NULL,'cf54bbd68a4cd768bd2c69a6c1d39cca76ff087b9180c0b6557517977e30fa59','37d5e61d469baf6563fdff8ba863560a47e5af12a1d6c3853a6d5902f4670022');
INSERT INTO "audit_entries" VALUES(23,'main',23,'audit-main-23','accepted','2026-11-25T01:28:02.277806Z','task-053031c5aa220ec5a6a052be7482aec0','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"}],"ranking":[],"refused":false}',NULL,NULL,'consent-1','queued',0,NULL,NULL,'anonymous','37d5e61d469baf6563fdff8ba863560a47e5af12a1d6c3853a6d5902f4670022','45b307d4e9592d6274097396f1a64d803f78ec6c972994aef261b14a5573bc55');
INSERT INTO "audit_entries" VALUES(24,'main',24,'audit-main-24','denied','2026-11-25T01:28:02.280286Z','task-053031c5aa220ec5a6a052be7482aec0','case-1',NULL,NULL,NULL,'consent-1','denied',0,'consent_revoked',NULL,NULL,'45b307d4e9592d6274097396f1a64d803f78ec6c972994aef261b14a5573bc55','b9a1308aef1995ec72490bf4dbc709e78726d9cfc02bf17135e465a85cb5816f');
INSERT INTO "audit_entries" VALUES(25,'main',25,'audit-main-25','consent_revoked','2026-11-25T01:28:02.280286Z',NULL,NULL,NULL,NULL,NULL,'consent-1',NULL,NULL,NULL,NULL,'anonymous','b9a1308aef1995ec72490bf4dbc709e78726d9cfc02bf17135e465a85cb5816f','dfe6872cb304485aeb03ace2b249e7490444778663f92b54f940f61d19a97810');
INSERT INTO "audit_entries" VALUES(26,'main',26,'audit-main-26','accepted','2026-11-25T01:28:02.282351Z','task-6ab513899b6577b801e04a8614dfd513','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"}],"ranking":[],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','dfe6872cb304485aeb03ace2b249e7490444778663f92b54f940f61d19a97810','2b70ee54832c77e632130d35fdefe383b6ab15e0d4743af234bccd9b2a14ef97');
INSERT INTO "audit_entries" VALUES(27,'main',27,'audit-main-27','accepted','2026-11-25T01:28:02.284469Z','task-3c391110f63de3238825204b1c6d5630','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"}],"ranking":[],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','2b70ee54832c77e632130d35fdefe383b6ab15e0d4743af234bccd9b2a14ef97','44574a65d41b629cb9b05c5f7736a86ce9a1ae0d5ed9a1079bcc8b28f895ea21');
INSERT INTO "audit_entries" VALUES(28,'main',28,'audit-main-28','accepted','2026-11-25T01:28:02.286484Z','task-706034bc9c4af001c7c2a9d6c0879b7f','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"}],"ranking":[],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','44574a65d41b629cb9b05c5f7736a86ce9a1ae0d5ed9a1079bcc8b28f895ea21','ef8d1c55368e4a3b14c8d6e910aa5073504d14fbaf5f74d1a85002977b234c9d');
INSERT INTO "audit_entries" VALUES(29,'main',29,'audit-main-29','accepted','2026-11-25T01:28:02.288815Z','task-95bb3937e6fdece14b0309809dca4b30','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"}],"ranking":[],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','ef8d1c55368e4a3b14c8d6e910aa5073504d14fbaf5f74d1a85002977b234c9d','0cbd52213d9a95002ccc517d770100793ca3e33dd867cf8f8c30c15b7b0724a5');
INSERT INTO "audit_entries" VALUES(30,'main',30,'audit-main-30','agent_registered','2026-11-25T01:28:02.290914Z',NULL,NULL,NULL,'agent-5',NULL,NULL,NULL,NULL,NULL,NULL,'anonymous','0cbd52213d9a95002ccc517d770100793ca3e33dd867cf8f8c30c15b7b0724a5','69df013739fd9c7465a34c47edf9c6cba099dbc847fa7e6968b87f815e599078');
INSERT INTO "audit_entries" VALUES(31,'main',31,'audit-main-31','accepted','2026-11-25T01:28:02.292740Z','task-aa171d4f9a82dcd00ed9586de77ae4a1','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-5","pulls":true,"score":0.0}],"ranking":[],"refused":false}',NULL,NULL,NULL,'queued',0,NULL,NULL,'anonymous','69df013739fd9c7465a34c47edf9c6cba099dbc847fa7e6968b87f815e599078','dd80e7290868b61dbd844a2b6c410de56a0692216e7f2a12e838e1fc2bcb40a4');
INSERT INTO "audit_entries" VALUES(32,'main',32,'audit-main-32','leased','2026-11-25T01:28:02.295395Z','task-aa171d4f9a82dcd00ed9586de77ae4a1','case-1','{"candidates":[{"agent_id":"agent-1","excluded":"capability"},{"agent_id":"agent-2","excluded":"capability"},{"agent_id":"agent-5","pulls":true,"score":0.0}],"ranking":["agent-5"],"refused":false}','agent-5',NULL,NULL,'leased',1,NULL,NULL,NULL,'dd80e7290868b61dbd844a2b6c410de56a0692216e7f2a12e838e1fc2bcb40a4','c89490903f8d4d2966bbb385b017c2e2cecfa9449aed754dd6db65ce8880634c');
CREATE TABLE audit_heads (
    writer     TEXT PRIMARY KEY,
    seq        INTEGER NOT NULL,
    entry_hash TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "audit_heads" VALUES('main',32,'c89490903f8d4d2966bbb385b017c2e2cecfa9449aed754dd6db65ce8880634c');
CREATE TABLE idempotency_keys (
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    task_id     TEXT NOT NULL,
    expires_at  REAL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "idempotency_keys" VALUES('caller:anonymous','key-0','6d60592503cb188477d5cab7bfbd11b9562f9ad167da43ec52be0cf6218536dd','task-295818c2b71ace4d11dd6008633f1435',NULL);
INSERT INTO "idempotency_keys" VALUES('caller:anonymous','key-1','6d60592503cb188477d5cab7bfbd11b9562f9ad167da43ec52be0cf6218536dd','task-66de749284c40afa9e28e36ea576b459',NULL);
INSERT INTO "idempotency_keys" VALUES('caller:anonymous','key-2','6d60592503cb188477d5cab7bfbd11b9562f9ad167da43ec52be0cf6218536dd','task-cb88e48aea3083273cd226f69f7dd6c1',NULL);
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    stream   TEXT NOT NULL,
    task_id  TEXT NOT NULL
) STRICT;
CREATE TABLE results (
    task_id       TEXT PRIMARY KEY REFERENCES tasks (task_id),
    attempt       INTEGER NOT NULL,
    agent_id      TEXT NOT NULL,
    output        BLOB NOT NULL,
    model_version TEXT,
    finished_at   REAL NOT NULL
) STRICT;
INSERT INTO "results" VALUES('task-295818c2b71ace4d11dd6008633f1435',1,'agent-1',X'7B22646F6E65223A747275657D',NULL,1.79557008128616523746e+09);
INSERT INTO "results" VALUES('task-66de749284c40afa9e28e36ea576b459',1,'agent-1',X'7B22646F6E65223A747275657D',NULL,1.79557008128824710851e+09);
INSERT INTO "results" VALUES('task-cb88e48aea3083273cd226f69f7dd6c1',1,'agent-1',X'7B22646F6E65223A747275657D',NULL,1.79557008129277467724e+09);
CREATE TABLE revoked_consents (
    consent_id TEXT PRIMARY KEY,
    revoked_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "revoked_consents" VALUES('consent-1',1.79557008228028583528e+09);
CREATE TABLE room (asked BLOB NOT NULL) STRICT;
CREATE TABLE schema_version (version INTEGER NOT NULL, probes INTEGER NOT NULL) STRICT;
INSERT INTO "schema_version" VALUES(1,0);
CREATE TABLE tasks (
    seq             INTEGER PRIMARY KEY,
    task_id         TEXT NOT NULL UNIQUE,
    case_id         TEXT NOT NULL,
    task_type       TEXT NOT NULL,
    priority        TEXT NOT NULL,
    lane            TEXT NOT NULL,
    payload         BLOB NOT NULL,
    meta            BLOB NOT NULL,
    consent         BLOB NOT NULL,
    raw_media       INTEGER NOT NULL,
    idempotency_key TEXT,
    replay_of       TEXT,
    created_at      REAL NOT NULL,
    deadline_at     REAL NOT NULL,
    state           TEXT NOT NULL,
    attempt         INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    lost            INTEGER NOT NULL,
    due_at          REAL,
    agent_id        TEXT,
    owner           TEXT,
    lease_until     REAL,
    tried           BLOB NOT NULL,
    reason          TEXT,
    updated_at      REAL NOT NULL,
    principal       TEXT NOT NULL,
    consent_id      TEXT,
    traceparent     TEXT,
    data_key        BLOB
) STRICT;
INSERT INTO "tasks" VALUES(1,'task-295818c2b71ace4d11dd6008633f1435','case-1','embed','normal','embed|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,'key-0',NULL,1.79557008127690386767e+09,1.79617488127690386775e+09,'succeeded',1,0,0,NULL,'agent-1','call/4efc003c9ca78326/stream_consumer_1',NULL,X'5B5D',NULL,1.79557008128616523746e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(2,'task-66de749284c40afa9e28e36ea576b459','case-1','embed','normal','embed|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,'key-1',NULL,1.79557008127974843982e+09,1.79617488127974843977e+09,'succeeded',1,0,0,NULL,'agent-1','call/4efc003c9ca78326/stream_consumer_1',NULL,X'5B5D',NULL,1.79557008128824710851e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(3,'task-cb88e48aea3083273cd226f69f7dd6c1','case-1','embed','normal','embed|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,'key-2',NULL,1.7955700812832071781e+09,1.79617488128320717806e+09,'succeeded',1,0,0,NULL,'agent-1','call/4efc003c9ca78326/stream_consumer_1',NULL,X'5B5D',NULL,1.79557008129277467724e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(4,'task-63492328a32aac9901094210be0e1153','case-1','indexing','normal','indexing|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.79557008128902959821e+09,1.79617488128902959816e+09,'dead',1,1,0,NULL,'agent-2','call/4efc003c9ca78326/stream_consumer_1',NULL,X'5B226167656E742D32225D','agent_error_permanent',1.79557008129991793631e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(5,'task-c17256b92934ac94e93e8127a76ded75','case-1','analyze_monitor','normal','analyze_monitor|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.79557008130212044719e+09,4102444800.0,'retry_wait',1,1,0,1.0,'agent-4','call/4efc003c9ca78326/sync_dispatcher',NULL,X'5B226167656E742D34225D','busy',1.79557008130417633052e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(6,'task-2710972f77404140e4dbbb5ce2622d23','case-1','audit_log','normal','audit_log|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.7955700813092503547e+09,1.79617488130925035479e+09,'cancelled',0,0,0,NULL,NULL,NULL,NULL,X'5B5D','cancelled',1.79557008131119585038e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(7,'task-59d32c513c8d892627ed76855bf749a3','case-1','audit_log','normal','audit_log|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.79557008131275868418e+09,1.7955700814127585888e+09,'expired',0,0,0,NULL,NULL,NULL,NULL,X'5B5D','deadline',1.79557008227297639846e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(8,'task-053031c5aa220ec5a6a052be7482aec0','case-1','audit_log','normal','audit_log|c-|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B22636F6E73656E745F676976656E223A747275652C22636F6E73656E745F6964223A22636F6E73656E742D31227D',0,NULL,NULL,1.79557008227780556678e+09,1.79617488227780556673e+09,'denied',0,0,0,NULL,NULL,NULL,NULL,X'5B5D','consent_revoked',1.79557008228028583528e+09,'anonymous','consent-1',NULL,NULL);
INSERT INTO "tasks" VALUES(9,'task-6ab513899b6577b801e04a8614dfd513','case-1','audit_log','low','audit_log|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.79557008228235054012e+09,4102444800.0,'queued',0,0,0,NULL,NULL,NULL,NULL,X'5B5D',NULL,1.79557008228235054012e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(10,'task-3c391110f63de3238825204b1c6d5630','case-1','audit_log','high','audit_log|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.79557008228446888923e+09,4102444800.0,'queued',0,0,0,NULL,NULL,NULL,NULL,X'5B5D',NULL,1.79557008228446888923e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(11,'task-706034bc9c4af001c7c2a9d6c0879b7f','case-1','audit_log','urgent','audit_log|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.79557008228648424153e+09,4102444800.0,'queued',0,0,0,NULL,NULL,NULL,NULL,X'5B5D',NULL,1.79557008228648424153e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(12,'task-95bb3937e6fdece14b0309809dca4b30','case-1','audit_log','normal','audit_log|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1.7955700822888147831e+09,4102444800.0,'queued',0,0,0,NULL,NULL,NULL,NULL,X'5B5D',NULL,1.7955700822888147831e+09,'anonymous',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(13,'task-aa171d4f9a82dcd00ed9586de77ae4a1','case-1','analyze_refer','normal','analyze_refer|--|',X'7B226E6F7465223A226B657074227D',X'7B7D',X'7B7D',0,NULL,NULL,1795570082.29274,4102444800.0,'leased',1,0,0,NULL,'agent-5','pull/agent-5/c102231b99a0fab0aeffbb762d1e478f',1.0,X'5B5D',NULL,1.79557008229539465907e+09,'anonymous',NULL,NULL,NULL);
CREATE TABLE webhooks (
    task_id  TEXT PRIMARY KEY REFERENCES tasks (task_id),
    url      TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at   REAL
) STRICT, WITHOUT ROWID;
INSERT INTO "webhooks" VALUES('task-95bb3937e6fdece14b0309809dca4b30','http://127.0.0.1:1024/told',0,NULL);
CREATE INDEX tasks_ready ON tasks (priority, lane, seq, state, due_at) WHERE state = 'queued' AND due_at IS NULL;
CREATE INDEX tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_leased ON tasks (lease_until) WHERE state = 'leased';
CREATE INDEX tasks_open ON tasks (deadline_at, priority, state) WHERE state IN ('queued', 'leased', 'retry_wait');
CREATE INDEX tasks_dead ON tasks (seq) WHERE state = 'dead';
CREATE INDEX tasks_dead_of ON tasks (principal, seq) WHERE state = 'dead';
CREATE INDEX tasks_consent ON tasks (consent_id)
WHERE consent_id IS NOT NULL AND state IN ('queued', 'leased', 'retry_wait');
CREATE INDEX tasks_case ON tasks (case_id);
CREATE TRIGGER revoked_consents_stay BEFORE DELETE ON revoked_consents
BEGIN SELECT RAISE(ABORT, 'a consent that was revoked stays so'); END;
CREATE TRIGGER revoked_consents_are_final BEFORE UPDATE ON revoked_consents
BEGIN SELECT RAISE(ABORT, 'a consent that was revoked stays so'); END;
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX audit_entries_chain ON audit_entries (writer, seq);
CREATE INDEX audit_entries_task ON audit_entries (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX audit_entries_case ON audit_entries (case_id) WHERE case_id IS NOT NULL;
CREATE INDEX audit_entries_time ON audit_entries (created_at);
CREATE TRIGGER audit_entries_stay BEFORE DELETE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted'); END;
CREATE TRIGGER audit_entries_are_final BEFORE UPDATE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries never change'); END;
CREATE TRIGGER audit_entries_are_not_replaced BEFORE INSERT ON audit_entries
WHEN EXISTS (SELECT 1 FROM audit_entries WHERE position = NEW.position OR (writer = NEW.writer AND seq = NEW.seq))
BEGIN SELECT RAISE(ABORT, 'audit entries never change'); END;
CREATE TRIGGER audit_heads_stay BEFORE DELETE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'the heads of the audit are never deleted'); END;
CREATE TRIGGER audit_heads_go_forward BEFORE UPDATE ON audit_heads WHEN NEW.writer <> OLD.writer OR NEW.seq <= OLD.seq
BEGIN SELECT RAISE(ABORT, 'the heads of the audit only go forward'); END;
CREATE UNIQUE INDEX outbox_task ON outbox (task_id, stream);
CREATE INDEX outbox_stream ON outbox (stream, position);
CREATE INDEX webhooks_due ON webhooks (due_at) WHERE due_at IS NOT NULL;
DELETE FROM "sqlite_sequence";
COMMIT;
