// An MQTT client made with mqtt. script_test.go says what it reads and prints.
'use strict'

const fs = require('fs')
const readline = require('readline')
const mqtt = require('mqtt')

const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n')
const answer = (event, more) => (err) => err ? say('error', { why: String(err) }) : say(event, more)
const bytes = (s) => Buffer.from(s || '', 'base64')

// pairs returns user properties, where a name that comes twice has an array, as [name, value]s.
const pairs = (o) => Object.entries(o || {}).flatMap(([k, v]) => [].concat(v).map((one) => [k, one]))

// named does the reverse.
const named = (list) => {
  const o = {}
  for (const [k, v] of list || []) o[k] = k in o ? [].concat(o[k], v) : v
  return o
}

let client

const connect = (o) => {
  const options = {
    protocolVersion: o.version,
    protocolId: o.version === 3 ? 'MQIsdp' : 'MQTT',
    clientId: o.id,
    clean: o.clean,
    reconnectPeriod: 0
  }
  if (o.version === 5) options.properties = { sessionExpiryInterval: o.expiry }
  if (o.user) Object.assign(options, { username: o.user, password: o.password })
  if (o.transport === 'tls' || o.transport === 'wss') options.ca = fs.readFileSync(o.ca)
  if (o.will) options.will = { ...o.will, payload: bytes(o.will.payload) }
  const scheme = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' }[o.transport]
  client = mqtt.connect(`${scheme}://${o.host}:${o.port}/mqtt`, options)
  client.on('connect', (ack) => say('connected', { present: ack.sessionPresent }))
  client.on('error', (err) => say('refused', { why: String(err) }))
  client.on('message', (topic, payload, p) => say('message', {
    topic, payload: payload.toString('base64'), qos: p.qos, retain: p.retain, user: pairs(p.properties?.userProperties)
  }))
}

const obey = (c) => {
  switch (c.do) {
    case 'subscribe':
      client.subscribe(c.topic, { qos: c.qos }, (err, granted) =>
        err ? say('error', { why: String(err) }) : say('subscribed', { qos: granted[0].qos }))
      break
    case 'publish': {
      const options = { qos: c.qos, retain: c.retain }
      if (c.user) options.properties = { userProperties: named(c.user) }
      client.publish(c.topic, bytes(c.payload), options, answer('published'))
      break
    }
    case 'disconnect':
      client.end(false, () => process.exit(0))
  }
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const o = JSON.parse(line)
  if (o.do) obey(o)
  else connect(o)
})
