// A client made of node-smpp: binds, sends requests one after the other, waits for what is to come, unbinds.
//
//     node smpp_esme.js OPTIONS     OPTIONS as JSON, see below; JSON lines on standard output
//
// {"bind": status}, {"response": {command, status, message_id, ...}} of each request in order, {"received": ...} of each
// deliver_sm and data_sm.
'use strict';

const fs = require('fs');
const smpp = require('smpp');

const options = Object.assign({
    host: '127.0.0.1', port: 2775, tls: false, bind: 'transceiver', system_id: '', password: '',
    requests: [],       // [command, fields]; a field "$N" is the message_id of the response number N, from 0
    receive: 0,         // so many deliver_sm are waited for
}, JSON.parse(process.argv[2]));

const ids = [];
let received = 0, answered = false;

function say(what) {
    fs.writeSync(1, JSON.stringify(what) + '\n');
}

const session = smpp.connect(
    {host: options.host, port: options.port, tls: options.tls, rejectUnauthorized: false}, () => {
        const login = {system_id: options.system_id, password: options.password, interface_version: 0x34};
        session['bind_' + options.bind](login, pdu => {
            say({bind: pdu.command_status});
            pdu.command_status ? session.close() : request(0);
        });
    });

function request(index) {
    if (index === options.requests.length) {
        answered = true;
        return leave();
    }
    const [command, fields] = options.requests[index], filled = {};
    for (const [name, value] of Object.entries(fields))
        filled[name] = /^\$\d+$/.test(value) ? ids[value.slice(1)] : value;
    session[command](filled, pdu => {
        ids.push(pdu.message_id || '');
        say({response: {
            command: pdu.command, status: pdu.command_status, message_id: pdu.message_id || '',
            message_state: pdu.message_state, unsuccess: pdu.unsuccess_sme,
        }});
        request(index + 1);
    });
}

function leave() {
    if (answered && received >= options.receive)
        session.unbind({}, () => session.close());
}

for (const command of ['deliver_sm', 'data_sm'])
    session.on(command, pdu => {
        const text = pdu.message_payload || pdu.short_message || {message: ''}, content = text.message;
        say({received: {
            command, source: pdu.source_addr, destination: pdu.destination_addr, esm_class: pdu.esm_class,
            text: typeof content === 'string' ? content : content.toString('latin1'),
            id: pdu.receipted_message_id, state: pdu.message_state,
        }});
        received++;
        session.send(pdu.response());
        leave();
    });
session.on('enquire_link', pdu => session.send(pdu.response()));
session.on('unbind', pdu => session.send(pdu.response()));
session.on('error', error => {
    say({error: String(error)});
    process.exit(1);
});
session.on('close', () => process.exit(0));
