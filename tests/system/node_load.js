// SPDX-License-Identifier: Apache-2.0
// node node_load.js PREFIX VALUE CLIENTS HOST:PORT...: clients that set each key once and print
// what they were told, until standard input ends.  One that loses its connection goes to the
// next server, and sends nothing again.
'use strict';
const Redis = require('ioredis');

const [prefix, value, clients, ...hosts] = process.argv.slice(2);
let stopping = false;
process.stdin.on('end', () => { stopping = true; });
process.stdin.resume();

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function connect(at) {
    const [host, port] = hosts[at % hosts.length].split(':');
    const redis = new Redis({
        host, port: Number(port), retryStrategy: () => null, maxRetriesPerRequest: 0,
        autoResendUnfulfilledCommands: false, enableOfflineQueue: true, connectTimeout: 2000,
        commandTimeout: 8000,
    });
    redis.on('error', () => {}); // told by the command that it concerns
    return redis;
}

async function work(i) {
    let at = i;
    let redis = connect(at);
    for (let n = 1; !stopping; n++) {
        const key = `${prefix}${i}:${n}`;
        const text = `${n}${value}`;
        try {
            console.log(`${key} ${text} ${await redis.set(key, text)}`);
        } catch (e) {
            const told = e.name === 'ReplyError';
            console.log(`${key} ${text} ${told ? e.message : `Lost ${e.name}`}`);
            if (!told) {
                redis.disconnect();
                redis = connect(++at);
            }
            await sleep(10);
        }
    }
    redis.disconnect();
}

Promise.all(Array.from({ length: Number(clients) }, (_, i) => work(i))).then(
    () => process.exit(0), (e) => { console.error(e); process.exit(1); });
