// SPDX-License-Identifier: Apache-2.0
// node node_redis.js plain|cluster|replicas PORT: node-redis does its usual work; exit code 0
// when all is right.
'use strict';
const assert = require('assert');
const { createClient, createCluster, WatchError } = require('redis');

async function plain(port) {
    const client = await createClient({ socket: { host: '127.0.0.1', port } }).connect();
    assert.strictEqual(await client.set('nr:a', 'wert ü'), 'OK');
    assert.strictEqual(await client.get('nr:a'), 'wert ü');
    assert.strictEqual(await client.get('nr:none'), null);
    assert.strictEqual(await client.set('nr:b', '1', { EX: 100, NX: true }), 'OK');
    assert.strictEqual(await client.set('nr:b', '1', { EX: 100, NX: true }), null);
    assert.ok((await client.ttl('nr:b')) > 90);
    assert.strictEqual(await client.incrBy('nr:b', 41), 42);

    const answers = await Promise.all(
        Array.from({ length: 1000 }, (_, i) => client.set(`nr:p${i}`, `${i}`)));
    assert.ok(answers.every((a) => a === 'OK'));
    assert.strictEqual((await client.mGet(['nr:p1', 'nr:p999', 'nr:none'])).join(), '1,999,');

    assert.deepStrictEqual(await client.multi().incr('nr:b').get('nr:a').exec(), [43, 'wert ü']);
    await client.executeIsolated(async (alone) => {
        await alone.watch('nr:b');
        await client.set('nr:b', 'changed');
        await assert.rejects(alone.multi().set('nr:b', 'x').exec(), WatchError);
    });
    await assert.rejects(client.incr('nr:a'), /value is not an integer/);

    const found = new Set();
    for await (const key of client.scanIterator({ MATCH: 'nr:p*', COUNT: 50 })) found.add(key);
    assert.strictEqual(found.size, 1000);
    assert.strictEqual(await client.unlink([...found]), 1000);
    assert.ok((await client.info()).includes('redis_version'));
    assert.ok((await client.sendCommand(['KEYSPACE', 'LIST'])).includes('default'));
    await client.del(['nr:a', 'nr:b']);
    await client.quit();
}

async function cluster(port, useReplicas = false) {
    const client = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }],
        useReplicas });
    await client.connect();
    for (let i = 0; i < 200; i++) assert.strictEqual(await client.set(`nrc:${i}`, `${i}`), 'OK');
    for (let i = 0; i < 200; i++) assert.strictEqual(await client.get(`nrc:${i}`), `${i}`);
    await client.disconnect();
}

const [what, port] = process.argv.slice(2);
const replicas = (at) => cluster(at, true);
({ plain, cluster, replicas })[what](Number(port)).then(
    () => process.exit(0), (e) => { console.error(e); process.exit(1); });
