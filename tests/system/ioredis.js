// SPDX-License-Identifier: Apache-2.0
// node ioredis.js plain|cluster|sentinel PORT: ioredis does its usual work; exit code 0 when all is right.
'use strict';
const assert = require('assert');
const Redis = require('ioredis');

async function plain(port) {
    const redis = new Redis({ port, host: '127.0.0.1', maxRetriesPerRequest: 2 });
    assert.strictEqual(await redis.set('io:a', 'wert ü'), 'OK');
    assert.strictEqual(await redis.get('io:a'), 'wert ü');
    assert.strictEqual(await redis.get('io:none'), null);
    assert.strictEqual(await redis.set('io:b', '1', 'EX', 100, 'NX'), 'OK');
    assert.strictEqual(await redis.set('io:b', '1', 'EX', 100, 'NX'), null);
    assert.ok((await redis.ttl('io:b')) > 90);
    assert.strictEqual(await redis.incrby('io:b', 41), 42);
    const binary = Buffer.from([0, 255, 13, 10]);
    await redis.set('io:bin', binary);
    assert.ok(binary.equals(await redis.getBuffer('io:bin')));

    const piped = redis.pipeline();
    for (let i = 0; i < 1000; i++) piped.set(`io:p${i}`, i).get(`io:p${i}`);
    const answers = await piped.exec();
    assert.strictEqual(answers.length, 2000);
    for (let i = 0; i < 1000; i++) assert.deepStrictEqual(answers[2 * i + 1], [null, `${i}`]);

    const done = await redis.multi().incr('io:b').get('io:a').exec();
    assert.deepStrictEqual(done, [[null, 43], [null, 'wert ü']]);
    await assert.rejects(redis.multi().set('io:b').exec());
    await redis.set('io:text', 'x');
    await assert.rejects(redis.incr('io:text'), /value is not an integer/);
    await assert.rejects(redis.call('NOSUCH'), /unknown command/);

    const found = new Set();
    for await (const keys of redis.scanStream({ match: 'io:p*', count: 50 }))
        for (const key of keys) found.add(key);
    assert.strictEqual(found.size, 1000);
    assert.strictEqual(await redis.unlink(...found), 1000);

    const two = redis.duplicate();
    await Promise.all(Array.from({ length: 200 }, (_, i) => (i % 2 ? redis : two).incr('io:n')));
    assert.strictEqual(await redis.get('io:n'), '200');
    await redis.del('io:a', 'io:b', 'io:bin', 'io:text', 'io:n');
    assert.strictEqual(await two.quit(), 'OK');
    assert.strictEqual(await redis.quit(), 'OK');
}

async function cluster(port) {
    const redis = new Redis.Cluster([{ host: '127.0.0.1', port }], { scaleReads: 'all' });
    for (let i = 0; i < 200; i++) assert.strictEqual(await redis.set(`ioc:${i}`, i), 'OK');
    for (let i = 0; i < 200; i++) assert.strictEqual(await redis.get(`ioc:${i}`), `${i}`);
    assert.strictEqual(await redis.mset('{ioc}1', 'a', '{ioc}2', 'b'), 'OK');
    assert.deepStrictEqual(await redis.mget('{ioc}1', '{ioc}2'), ['a', 'b']);
    assert.ok(redis.nodes('all').length >= 1);
    await redis.quit();
}

async function sentinel(port) {
    const redis = new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: 'default' });
    assert.strictEqual(await redis.set('ios:a', 'x'), 'OK');
    assert.strictEqual(await redis.get('ios:a'), 'x');
    await redis.del('ios:a');
    await redis.quit();
}

const [what, port] = process.argv.slice(2);
({ plain, cluster, sentinel })[what](Number(port)).then(
    () => process.exit(0), (e) => { console.error(e); process.exit(1); });
