// An SMSC made of node-smpp, for tests and as the carrier of benchmarks.
//
//     node smpp_smsc.js OPTIONS     OPTIONS as JSON, see below; JSON lines on standard output
//
// {"listening": port} first. With `told`: {"bind": ...} and {"submit": ...} of each. {"taken", "acknowledged", "began",
// "ended"} whenever the counts have changed, at most every 50 ms, and at the end: submits taken, receipts acknowledged,
// and the seconds at which the first submit and the last acknowledgement came. TERM ends it.
'use strict';

const fs = require('fs');
const smpp = require('smpp');

const options = Object.assign({
    port: 0,
    key: '', cert: '',              // TLS with these files
    response_id: 'decimal',         // decimal, hex, HEX, mixed
    receipt_id: 'decimal',          // the same number; mixed: every form meets every other
    receipts: 'after',              // after the response, early: before it, none
    spread: false,                  // receipts go over the binds of the same system_id in turn
    refuse: '', refusals: 0,        // so many submits are answered with this status first
    states: {},                     // state by destination, else DELIVRD
    answers: {},                    // a message from the destination, once it was sent to
    odd: [],                        // bare-bind-response, enquire-first, misplaced-tlv, unknown-command
    told: true,
}, JSON.parse(process.argv[2] || '{}'));

const counts = {binds: 0, taken: 0, refused: 0, acknowledged: 0, rejected: 0, began: 0, ended: 0};
const sessions = {};
let refusals = options.refusals, number = 4000000000, turn = 0, changed = false;

function say(what) {
    fs.writeSync(1, JSON.stringify(what) + '\n');
}

function tell() {
    if (changed) {
        changed = false;
        say(counts);
    }
}

function written(value, form, which) {
    switch (form === 'mixed' ? ['decimal', 'hex', 'HEX'][which % 3] : form) {
    case 'hex': return value.toString(16);
    case 'HEX': return value.toString(16).toUpperCase().padStart(10, '0');
    default: return value.toString(10);
    }
}

function date(time) {
    return time.toISOString().replace(/[-:T]/g, '').slice(2, 12);
}

function acknowledged(pdu) {
    pdu.command_status ? counts.rejected++ : counts.acknowledged++;
    counts.ended = Date.now() / 1000;
    changed = true;
}

function receiver(session) {
    const all = (sessions[session.system_id] || []).filter(each => each.kind !== 'transmitter');
    return options.spread || session.kind === 'transmitter' ? all[turn++ % all.length] : session;
}

function sendReceipt(session, pdu, id) {
    const state = options.states[pdu.destination_addr] || 'DELIVRD', now = date(new Date()), to = receiver(session);
    const delivered = state === 'DELIVRD' ? '001' : '000', error = delivered === '001' ? '000' : '027';
    const fields = {
        source_addr_ton: pdu.dest_addr_ton, source_addr_npi: pdu.dest_addr_npi, source_addr: pdu.destination_addr,
        dest_addr_ton: pdu.source_addr_ton, dest_addr_npi: pdu.source_addr_npi, destination_addr: pdu.source_addr,
        esm_class: 4,
        short_message: `id:${id} sub:001 dlvrd:${delivered} submit date:${now} done date:${now} stat:${state} `
            + `err:${error} text:`,
    };
    if (options.odd.includes('misplaced-tlv')) {
        // Fields of submit_sm and of bind_resp, in a deliver_sm.
        fields.number_of_messages = 1;
        fields.sc_interface_version = 0x34;
    }
    to.deliver_sm(fields, acknowledged);
}

function sendAnswer(session, pdu, text) {
    receiver(session).deliver_sm({
        source_addr_ton: 1, source_addr_npi: 1, source_addr: pdu.destination_addr,
        dest_addr_ton: pdu.source_addr_ton, dest_addr_npi: pdu.source_addr_npi, destination_addr: pdu.source_addr,
        short_message: text,
    });
}

function submitted(session, pdu) {
    changed = true;
    counts.began = counts.began || Date.now() / 1000;
    if (options.told) {
        const text = pdu.message_payload || pdu.short_message, content = text.message;
        say({submit: {
            source: pdu.source_addr, destination: pdu.destination_addr, coding: pdu.data_coding,
            registered: pdu.registered_delivery, esm_class: pdu.esm_class, again: refusals > 0,
            text: typeof content === 'string' ? content : content.toString('latin1'),
            udh: (text.udh || []).map(each => each.toString('hex')),
        }});
    }
    if (refusals > 0) {
        refusals--;
        counts.refused++;
        session.send(pdu.response({command_status: smpp[options.refuse]}));
        return;
    }
    counts.taken++;
    const value = number++, receipt = (pdu.registered_delivery & 3) && options.receipts !== 'none';
    const inReceipt = written(value, options.receipt_id, Math.floor(value / 3));
    if (receipt && options.receipts === 'early')
        sendReceipt(session, pdu, inReceipt);
    session.send(pdu.response({message_id: written(value, options.response_id, value)}));
    if (receipt && options.receipts === 'after')
        sendReceipt(session, pdu, inReceipt);
    const answer = options.answers[pdu.destination_addr];
    if (answer)
        sendAnswer(session, pdu, answer);
}

function bound(session, kind, pdu) {
    session.system_id = pdu.system_id;
    session.kind = kind;
    (sessions[pdu.system_id] = sessions[pdu.system_id] || []).push(session);
    counts.binds++;
    changed = true;
    if (options.told)
        say({bind: {kind, system_id: pdu.system_id, password: pdu.password}});
    if (options.odd.includes('bare-bind-response')) {
        const response = Buffer.alloc(16);
        response.writeUInt32BE(16, 0);
        response.writeUInt32BE((pdu.command_id | 0x80000000) >>> 0, 4);
        response.writeUInt32BE(pdu.sequence_number, 12);
        session.socket.write(response);
    } else {
        session.send(pdu.response({system_id: 'node', sc_interface_version: 0x34}));
    }
    if (options.odd.includes('unknown-command')) {
        // A vendor's own request: it is to be refused with generic_nack, and nothing else happens.
        const vendors = Buffer.from('0000001400010300000000000000abcd01020304', 'hex');
        session.on('generic_nack', nack => say({nack: nack.sequence_number, status: nack.command_status}));
        session.socket.write(vendors);
    }
}

const tls = options.cert ? {key: fs.readFileSync(options.key), cert: fs.readFileSync(options.cert)} : {};
const server = smpp.createServer(tls, session => {
    session.on('error', () => session.destroy());
    session.on('close', () => {
        const all = sessions[session.system_id] || [];
        if (all.includes(session))
            all.splice(all.indexOf(session), 1);
    });
    if (options.odd.includes('enquire-first'))
        session.enquire_link({}, () => say({alive: true}));
    for (const kind of ['transceiver', 'transmitter', 'receiver'])
        session.on('bind_' + kind, pdu => bound(session, kind, pdu));
    session.on('submit_sm', pdu => submitted(session, pdu));
    session.on('enquire_link', pdu => session.send(pdu.response()));
    session.on('unbind', pdu => {
        session.send(pdu.response());
        session.close();
    });
});
server.on('tlsClientError', () => undefined);
server.listen({port: options.port, host: '127.0.0.1'}, () => say({listening: server.address().port}));
setInterval(tell, 50);
process.on('SIGTERM', () => {
    tell();
    process.exit(0);
});
