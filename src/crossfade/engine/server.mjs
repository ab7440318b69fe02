// Prisma's query engine, for Prisma Client Python, without the native binary.
//
// Prisma Client Python starts an executable, `FILE -p PORT …`, and speaks GraphQL over HTTP to it. The native engine
// is such an executable; this program stands in its place. Prisma also publishes the same engine compiled to WASM.
// That build speaks Prisma's JSON protocol and reaches PostgreSQL through a driver that JavaScript lends to it. So:
//
//     HTTP + GraphQL  →  (translate)  →  engine (WASM)  →  (driver)  →  pg  →  PostgreSQL
//
// Theory of operation
// * Values travel as text. A GraphQL literal becomes JSON text and the engine's JSON answer becomes the client's
//   without ever being a JavaScript number, so 700.0 stays a float and an integer above 2^53 stays exact.
// * GraphQL has no Json literal: the client sends a string. The JSON protocol wants {"$type":"Json"} around it. The
//   schema's input types (from the DMMF, by Prisma's own parser) say at which places that is so; nothing is guessed.
// * In answers the engine tags what JSON cannot say, {"$type":"DateTime","value":"…"}; the GraphQL form has the bare
//   value. A quote inside a string is always escaped, so the tag can be found in the text without parsing it.
// * A WASM module that panics is spoilt for good. It is then replaced, with its connections; calls in flight fail.
// * The program ends with its parent, however that ends.
//
// Environment: PRISMA_DML_PATH (the schema), OVERWRITE_DATASOURCES, LOG_QUERIES: from Prisma Client Python.
// CROSSFADE_ENGINE_PACKAGES (holds node_modules), CROSSFADE_ENGINE_CACHE, CROSSFADE_ENGINE_PARENT: from the launcher.

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import nodeModule, { createRequire } from 'node:module'
import { connect as dial } from 'node:net'
import { availableParallelism, cpus } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const env = process.env
const packages = env.CROSSFADE_ENGINE_PACKAGES
const cache = env.CROSSFADE_ENGINE_CACHE

// --- the parent ---------------------------------------------------------------------------------------------------

// The launcher notes who its parent was before Node started. Once that is no longer our parent, it is gone.
const parent = Number(env.CROSSFADE_ENGINE_PARENT ?? process.ppid)
const orphaned = () => process.ppid !== parent
if (orphaned()) process.exit(0)
setInterval(() => orphaned() && process.exit(0), 250).unref()

// A parent that died before even the launcher ran may have left no trace; but it also never calls.
const firstCall = setTimeout(() => process.exit(0), 30_000).unref()

nodeModule.enableCompileCache?.(join(cache, 'node'))
const require = createRequire(join(packages, 'package.json'))
const pg = require('pg')
const postgresArray = require('postgres-array')
const { bindAdapter, ok, err, ColumnTypeEnum: Column } = require('@prisma/driver-adapter-utils')
const { parse } = require('graphql/language/parser')

const complain = (text) => process.stderr.write(`prisma engine: ${text}\n`)

// --- the schema ---------------------------------------------------------------------------------------------------

const schemaPath = resolve(env.PRISMA_DML_PATH)
const schemaText = readFileSync(schemaPath, 'utf8')

// What the translation needs to know of the schema, kept in the cache because Prisma's parser takes a while to load.
function readSchema() {
  const self = readFileSync(fileURLToPath(import.meta.url)) // another version of this file may want other facts
  const key = createHash('sha256').update(self).update(schemaText).digest('hex').slice(0, 20)
  const file = join(cache, 'types', `${key}.json`)
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    // not there yet, or half of it: made anew
  }
  const parser = require('@prisma/prisma-schema-wasm')
  const prismaSchema = [['schema.prisma', schemaText]]
  const dmmf = JSON.parse(parser.get_dmmf(JSON.stringify({ prismaSchema, noColor: true })))
  const options = { prismaSchema, ignoreEnvVarErrors: true, noColor: true, env: {}, datasourceOverrides: {} }
  const { datasources } = JSON.parse(parser.get_config(JSON.stringify(options))).config
  const schema = { datasource: datasources[0], ...shapes(dmmf) }
  try {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(`${file}.${process.pid}`, JSON.stringify(schema))
    renameSync(`${file}.${process.pid}`, file)
  } catch {
    // a cache that cannot be written costs time at the next start, no more
  }
  return schema
}

// A slot is a place in the arguments. { json?: 'one' | 'list' | 'both', nullable?: may be null all the same,
// enums?: [names that may stand for a Json], inputs?: [input types that an object there may have] }.
// `inputs` maps input type → field → slot; `outputs` output type → field → { type?, args: { name: slot } };
// `roots` maps a root field such as findManyUser to the model and the action of the JSON protocol.
function shapes({ schema, mappings }) {
  const enumValues = new Map()
  for (const group of Object.values(schema.enumTypes)) for (const e of group ?? []) enumValues.set(e.name, e.values)
  const slot = ({ inputTypes }) => {
    const jsons = inputTypes.filter((t) => t.location === 'scalar' && t.type === 'Json').map((t) => t.isList)
    const json = jsons.length && (new Set(jsons).size > 1 ? 'both' : jsons[0] ? 'list' : 'one')
    const nullable = inputTypes.some((t) => t.type === 'Null')
    const inputs = inputTypes.filter((t) => t.location === 'inputObjectTypes').map((t) => t.type)
    const enums = inputTypes.filter((t) => t.location === 'enumTypes').flatMap((t) => enumValues.get(t.type) ?? [])
    return {
      ...(json && { json }),
      ...(json && nullable && { nullable }),
      ...(json && enums.length && { enums }),
      ...(inputs.length && { inputs }),
    }
  }
  const inputs = {}
  for (const group of Object.values(schema.inputObjectTypes)) {
    for (const type of group ?? []) inputs[type.name] = Object.fromEntries(type.fields.map((f) => [f.name, slot(f)]))
  }
  keepWhatLeadsToJson(inputs)
  const outputs = {}
  for (const group of Object.values(schema.outputObjectTypes)) {
    for (const type of group ?? []) {
      outputs[type.name] = {}
      for (const { name, args, outputType } of type.fields) {
        const isObject = outputType.location === 'outputObjectTypes'
        if (!isObject && !args.length) continue
        const slots = Object.fromEntries(args.map((a) => [a.name, slot(a)]))
        outputs[type.name][name] = { ...(isObject && { type: outputType.type }), args: slots }
      }
    }
  }
  const roots = {}
  for (const { model, ...operations } of mappings.modelOperations) {
    for (const [action, root] of Object.entries(operations)) if (root) roots[root] = { model, action }
  }
  for (const action of ['queryRaw', 'executeRaw']) roots[action] = { action }
  return { inputs, outputs, roots }
}

// Only Json needs care, so the rest of the input types is dropped; the smaller table also loads faster.
function keepWhatLeadsToJson(inputs) {
  const leads = new Set()
  const relevant = (slot) => slot.json || slot.inputs?.some((name) => leads.has(name))
  for (let before = -1; before !== leads.size; ) {
    before = leads.size
    for (const [name, fields] of Object.entries(inputs)) if (Object.values(fields).some(relevant)) leads.add(name)
  }
  for (const [name, fields] of Object.entries(inputs)) {
    for (const [field, slot] of Object.entries(fields)) if (!relevant(slot)) delete fields[field]
    if (!leads.has(name)) delete inputs[name]
  }
}

const schema = readSchema()

// --- GraphQL in, the JSON protocol out ------------------------------------------------------------------------------

// An error in the form that the client turns into an exception; `code` is one of Prisma's P-codes.
class Refusal extends Error {
  constructor(message, { code, meta, isPanic = false, error = message } = {}) {
    super(message)
    const known = code === undefined ? { backtrace: null } : { meta: meta ?? {}, error_code: code }
    this.entry = { error, user_facing_error: { is_panic: isPanic, message, ...known } }
  }
}

const quoted = JSON.stringify
const noSlot = {}

// `path` is the root field and the names below it.
function inputValue(node, slot, path) {
  if (slot.json) return jsonInput(node, slot, path)
  switch (node.kind) {
    case 'IntValue':
    case 'FloatValue':
      return node.value
    case 'ListValue':
      return `[${node.values.map((item) => inputValue(item, slot, path)).join()}]`
    case 'ObjectValue':
      return `{${node.fields
        .map((f) => {
          const name = f.name.value
          return `${quoted(name)}:${inputValue(f.value, slotWithin(slot, name), [...path, name])}`
        })
        .join()}}`
    default: // null, a boolean, a string, or a bare word
      return quoted(node.value ?? null)
  }
}

// The JSON protocol takes any JSON where a Json is due; the GraphQL one only a string that holds some. The client was
// written for the latter, so the rest is refused here, in the words of the native engine.
function jsonInput(node, slot, path) {
  const [root, ...argumentPath] = path
  const where = { argumentPath, selectionPath: [root] }
  if (node.kind === 'StringValue') return slot.enums?.includes(node.value) ? quoted(node.value) : json(node.value)
  if (node.kind === 'ListValue' && slot.json !== 'one') {
    return `[${node.values.map((item) => jsonInput(item, { json: 'one' }, path)).join()}]`
  }
  if (node.kind === 'ObjectValue' && slot.inputs?.length) return inputValue(node, { inputs: slot.inputs }, path)
  if (node.kind !== 'NullValue') {
    const message = `Invalid argument type. \`${argumentPath.join('.')}\` should be a Json.`
    throw new Refusal(message, { code: 'P2009', meta: { kind: 'InvalidArgumentType', ...where } })
  }
  if (slot.nullable) return 'null'
  const message = `\`${argumentPath.join('.')}\`: A value is required but not set`
  throw new Refusal(message, { code: 'P2012', meta: { kind: 'RequiredArgumentMissing', ...where } })

  function json(text) {
    try {
      refuseWhatPanics(text, JSON.parse(text))
    } catch {
      // The WASM engine would panic on it.
      const message = `Invalid argument value. \`${text}\` is not a valid \`Json String\`.`
      throw new Refusal(message, { code: 'P2009', meta: { kind: 'InvalidArgumentValue', ...where } })
    }
    return `{"$type":"Json","value":${quoted(text)}}`
  }
}

// JavaScript reads documents that the engine's own parser does not; the engine panics on them, and every call in
// flight would fail. They are deep nesting, numbers that no double holds, and halves of surrogate pairs.
const DEEPEST = 127
const SUSPICIOUS = /\d{300}|[eE]\+?\d{3}|\\u[dD][89a-fA-F]/
function refuseWhatPanics(text, value) {
  if (SUSPICIOUS.test(text) || (text.match(/[[{]/g)?.length ?? 0) > DEEPEST) walk(value, 1)

  function walk(value, depth) {
    if (value === Infinity || value === -Infinity) throw new RangeError()
    if (typeof value === 'string' && /\p{Surrogate}/u.test(value)) throw new RangeError()
    if (typeof value !== 'object' || value === null) return
    if (depth > DEEPEST) throw new RangeError()
    for (const [key, item] of Object.entries(value)) walk(key, depth), walk(item, depth + 1)
  }
}

// The slot of field `name` in an object that may be of any of the slot's input types: all their answers together.
function slotWithin(slot, name) {
  let found = noSlot
  for (const type of slot.inputs ?? []) {
    const next = schema.inputs[type]?.[name]
    if (!next) continue
    if (found === noSlot) found = next
    else {
      found = {
        json: found.json && next.json && found.json !== next.json ? 'both' : (found.json ?? next.json),
        nullable: found.nullable || next.nullable,
        enums: [...(found.enums ?? []), ...(next.enums ?? [])],
        inputs: [...new Set([...(found.inputs ?? []), ...(next.inputs ?? [])])],
      }
    }
  }
  return found
}

function argumentsOf(field, known, root) {
  const parts = (field.arguments ?? []).map(({ name, value }) => {
    return `${quoted(name.value)}:${inputValue(value, known?.args[name.value] ?? noSlot, [root, name.value])}`
  })
  return `{${parts.join()}}`
}

function selectionOf(field, typeName, root) {
  const parts = (field.selectionSet?.selections ?? []).map((child) => {
    const name = child.name.value
    const known = schema.outputs[typeName]?.[name]
    if (!child.selectionSet && !child.arguments?.length) return `${quoted(name)}:true`
    const within = selectionOf(child, known?.type, root)
    return `${quoted(name)}:{"arguments":${argumentsOf(child, known, root)},"selection":${within}}`
  })
  return `{${parts.join()}}`
}

// Returns { root, alias, raw, text }: the name that the engine will answer under, the one the client looks for,
// whether it is raw SQL, and the request in the JSON protocol.
function translate(query) {
  let field
  let operation
  try {
    const [definition] = parse(query, { noLocation: true }).definitions
    operation = definition.operation === 'mutation' ? 'Mutation' : 'Query'
    field = definition.selectionSet.selections[0]
  } catch (error) {
    throw new Refusal(`Error parsing GraphQL query: ${error.message}`)
  }
  const root = field.name.value
  const target = schema.roots[root]
  if (!target) {
    const meta = { kind: 'UnknownSelectionField', selectionPath: [root] }
    throw new Refusal(`Field '${root}' not found in enclosing type '${operation}'`, { code: 'P2009', meta })
  }
  // The parameters of raw SQL are a list as text, though the DMMF calls them Json.
  const known = target.model ? schema.outputs[operation]?.[root] : undefined
  const args = argumentsOf(field, known, root)
  const model = target.model ? `"modelName":${quoted(target.model)},` : ''
  const selection = selectionOf(field, known?.type, root)
  const text = `{${model}"action":"${target.action}","query":{"arguments":${args},"selection":${selection}}}`
  return { root, alias: field.alias?.value ?? root, raw: !target.model, text }
}

const TAG = /\{"\$type":"\w+","value":("(?:[^"\\]|\\.)*")\}/g

// Every tagged value is a string, Json included: the client's models expect JSON text there.
const untag = (text) => (text.includes('{"$type":') ? text.replace(TAG, '$1') : text)

function rename(text, { root, alias, raw }) {
  const before = `{"data":{${quoted(root)}:`
  const named = text.startsWith(before) ? `{"data":{${quoted(alias)}:${text.slice(before.length)}` : text
  // Raw rows carry no tags, but a json column may hold what looks like one.
  return raw ? named : untag(named)
}

// --- PostgreSQL for the engine ---------------------------------------------------------------------------------------

// oid of the type, oid of its array, what the engine calls them
const TYPES = [
  [16, 1000, 'Boolean'], [17, 1001, 'Bytes'], [18, 1002, 'Character'], [20, 1016, 'Int64'], [21, 1005, 'Int32'],
  [23, 1007, 'Int32'], [25, 1009, 'Text'], [26, 1028, 'Int64'], [114, 199, 'Json'], [142, 143, 'Text'],
  [650, 651, 'Text'], [700, 1021, 'Float'], [701, 1022, 'Double'], [790, 791, 'Numeric'], [869, 1041, 'Text'],
  [1042, 1014, 'Text'], [1043, 1015, 'Text'], [1082, 1182, 'Date'], [1083, 1183, 'Time'], [1114, 1115, 'DateTime'],
  [1184, 1185, 'DateTime'], [1266, 1270, 'Time'], [1560, 1561, 'Text'], [1562, 1563, 'Text'], [1700, 1231, 'Numeric'],
  [2950, 2951, 'Uuid'], [3802, 3807, 'Json'], [19, 1003, 'Text'],
]
const FIRST_USER_OID = 16384

const asIs = (text) => text
const asBytes = (text) => Array.from(Buffer.from(text.slice(2), 'hex'))
// The engine takes a timestamp without an offset for UTC. Sessions may be in any zone.
function asUtc(text) {
  const match = /^(\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)?([+-]\d\d)(?::(\d\d))?(?::\d\d)?$/.exec(text)
  if (!match) return text
  const [, instant, fraction = '', hours, minutes = '00'] = match
  if (hours === '+00' && minutes === '00') return instant + fraction
  const shifted = new Date(`${instant.replace(' ', 'T')}${hours}:${minutes}`)
  return shifted.toISOString().slice(0, 19).replace('T', ' ') + fraction
}
const READERS = {
  16: (text) => text === 't', 17: asBytes, 21: Number, 23: Number, 700: Number, 701: Number,
  790: (text) => text.replace(/[^\d.-]/g, ''), 1184: asUtc, 1266: (text) => text.replace(/[+-]\d\d(:\d\d)*$/, ''),
}

const columnTypes = new Map()
const readers = new Map()
for (const [oid, arrayOid, name] of TYPES) {
  const read = READERS[oid] ?? asIs
  columnTypes.set(oid, Column[name])
  columnTypes.set(arrayOid, Column[`${name}Array`])
  readers.set(oid, read)
  readers.set(arrayOid, (text) => postgresArray.parse(text, read))
}

const SERVER_WENT_AWAY = /^(0800|57P0)/

// The driver in the shape that the engine asks for: queryRaw and executeRaw on something that has `query`.
class Queryable {
  provider = 'postgres'
  adapterName = 'crossfade'

  constructor(client, database) {
    this.client = client
    this.database = database
  }

  async queryRaw(query) {
    const answer = await this.perform(query)
    if (!answer.ok) return answer
    const { fields, rows } = answer.value
    const types = []
    for (const { dataTypeID } of fields) {
      const type = columnTypes.get(dataTypeID) ?? this.database.userArrays.get(dataTypeID)
      if (type === undefined && dataTypeID < FIRST_USER_OID) {
        return err({ kind: 'UnsupportedNativeDataType', type: await this.typeName(dataTypeID) })
      }
      types.push(type ?? Column.Text)
    }
    return ok({ columnNames: fields.map((f) => f.name), columnTypes: types, rows })
  }

  async typeName(oid) {
    return (await this.client.query('SELECT typname FROM pg_type WHERE oid = $1', [oid])).rows[0].typname
  }

  async executeRaw(query) {
    return (await this.perform(query)).map((result) => result.rowCount ?? 0)
  }

  async perform({ sql, args }) {
    try {
      const types = { getTypeParser: (oid) => readers.get(oid) ?? this.database.userReader(oid) }
      // The simple protocol, pg's choice without values, would run several statements at once.
      const query = { text: sql, values: args.map(bindable), rowMode: 'array', queryMode: 'extended', types }
      return ok(await this.client.query(query))
    } catch (error) {
      if (typeof error.code === 'string' && error.severity && !SERVER_WENT_AWAY.test(error.code)) {
        const { code, severity, message, detail, column, hint } = error
        return err({ kind: 'Postgres', code, severity, message, detail, column, hint })
      }
      throw error // bindAdapter keeps it, the engine answers P2036, and explainDriverError says what it was
    }
  }
}

// pg would send a typed array inside a list as text.
function bindable(value) {
  if (Array.isArray(value)) return value.map(bindable)
  return ArrayBuffer.isView(value) ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value
}

class Transaction extends Queryable {
  options = { usePhantomQuery: false } // the engine sends BEGIN and COMMIT itself

  constructor(client, database) {
    super(client, database)
    this.lost = (error) => this.release(error)
    client.once('error', this.lost)
  }

  release(error) {
    if (this.released) return
    this.released = true
    this.client.removeListener('error', this.lost)
    this.client.release(error)
  }

  async commit() {
    this.release()
    return ok(undefined)
  }

  async rollback() {
    this.release()
    return ok(undefined)
  }
}

class Database extends Queryable {
  userArrays = new Map() // arrays of the database's own types: enums, domains
  clients = new Set()

  constructor(settings) {
    const pool = new pg.Pool(settings.pool)
    super(pool, undefined)
    this.database = this
    this.pool = pool
    this.settings = settings
    // Without listeners, a connection that breaks would end the program.
    pool.on('error', () => {})
    pool.on('connect', (client) => {
      client.on('error', () => {})
      this.clients.add(client)
    })
    pool.on('remove', (client) => this.clients.delete(client))
  }

  userReader(oid) {
    return this.userArrays.has(oid) ? (text) => postgresArray.parse(text, asIs) : asIs
  }

  async learnUserTypes() {
    const { rows } = await this.pool.query("SELECT typarray FROM pg_type WHERE typtype = 'e' AND typarray <> 0")
    for (const { typarray } of rows) this.userArrays.set(Number(typarray), Column.TextArray)
  }

  getConnectionInfo() {
    return ok({ schemaName: this.settings.schema })
  }

  async startTransaction() {
    return ok(new Transaction(await this.pool.connect(), this))
  }

  destroy() {
    for (const client of this.clients) client.connection?.stream?.destroy()
  }
}

// --- the database URL --------------------------------------------------------------------------------------------------

function databaseUrl() {
  const overrides = JSON.parse(env.OVERWRITE_DATASOURCES ?? '[]')
  const override = overrides.find((o) => o.name === schema.datasource.name) ?? overrides[0]
  const { fromEnvVar, value } = schema.datasource.url
  const url = override?.url ?? (fromEnvVar ? env[fromEnvVar] : value)
  if (!url) throw new Error(`the environment variable ${fromEnvVar} is not set`)
  return url
}

// Values travel as text, whose forms a server, a database or a role may have been set to change. The engine writes a
// moment without its zone, UTC, which would otherwise be taken for the session's in a timestamptz column.
const TEXT_FORMS = '-c datestyle=ISO -c bytea_output=hex -c extra_float_digits=1 -c timezone=UTC'

// Prisma's URL parameters, in pg's terms.
async function connectionSettings(text) {
  let url
  try {
    url = new URL(text)
  } catch {
    throw new Error('the database URL cannot be read') // never the URL itself: it holds the password
  }
  if (!/^postgres(ql)?:$/.test(url.protocol)) throw new Error('the database URL must start with postgresql://')
  const option = Object.fromEntries(url.searchParams)
  const number = (name, otherwise) => (option[name] === undefined ? otherwise : Number(option[name]))
  const schemaName = option.schema ?? 'public'
  const host = option.host ?? (decodeURIComponent(url.hostname).replace(/^\[|\]$/g, '') || 'localhost')
  const port = Number(url.port || 5432)
  const identifier = `"${schemaName.replaceAll('"', '""')}"`
  const searchPath = `-c search_path=${identifier.replaceAll(/[\\ ]/g, '\\$&')}`
  const cores = availableParallelism?.() ?? cpus().length
  const pool = {
    host,
    port,
    user: decodeURIComponent(url.username) || undefined,
    password: decodeURIComponent(url.password) || undefined,
    database: decodeURIComponent(url.pathname.slice(1)) || undefined,
    max: number('connection_limit', cores * 2 + 1),
    connectionTimeoutMillis: number('pool_timeout', 10) * 1000,
    idleTimeoutMillis: number('max_idle_connection_lifetime', 300) * 1000,
    maxLifetimeSeconds: number('max_connection_lifetime', 0),
    query_timeout: number('socket_timeout', 0) * 1000 || undefined,
    application_name: option.application_name,
    keepAlive: true,
    ssl: await encryption(option, host, port),
    // A pooler such as pgbouncer refuses options it does not know.
    options: option.pgbouncer === 'true' ? undefined : [option.options, TEXT_FORMS, searchPath].filter(Boolean).join(' '),
  }
  return { pool, schema: schemaName, host, port }
}

async function encryption(option, host, port) {
  const mode = option.sslmode ?? 'prefer'
  const file = (name) => (option[name] ? readFileSync(resolve(dirname(schemaPath), option[name])) : undefined)
  if (mode === 'disable' || host.startsWith('/')) return false
  if (mode === 'prefer' && !(await offersEncryption(host, port))) return false
  return {
    ca: file('sslcert'),
    pfx: file('sslidentity'),
    passphrase: option.sslpassword,
    rejectUnauthorized: option.sslaccept === 'strict' || mode.startsWith('verify'),
    servername: host,
  }
}

// PostgreSQL's SSLRequest: the server answers one byte, S or N.
function offersEncryption(host, port) {
  return new Promise((resolved, rejected) => {
    const socket = dial({ host, port, timeout: 5000 }, () => socket.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])))
    socket.once('data', (data) => (resolved(data[0] === 0x53), socket.destroy()))
    socket.once('error', rejected)
    socket.once('close', () => resolved(false))
    socket.once('timeout', () => socket.destroy(new Error('the server does not answer')))
  })
}

// --- the engine ------------------------------------------------------------------------------------------------------

const home = join(packages, 'node_modules/@prisma/client/runtime')
const runtimePath = join(home, 'query_engine_bg.postgresql.js')
const compiled = WebAssembly.compile(readFileSync(join(home, 'query_engine_bg.postgresql.wasm')))
compiled.catch(() => {}) // reported where it is awaited

class Engine {
  transactions = new Map() // id → when it started; the engine panics when asked to end one it never heard of
  ended = [] // the latest of them that are over
  inFlight = new Set() // how to fail the calls that a panic leaves without an answer

  static async start() {
    const engine = (Engine.newest = new Engine())
    engine.database = new Database(await connectionSettings(databaseUrl()))
    try {
      await engine.database.learnUserTypes()
      await engine.load()
    } catch (error) {
      engine.database.destroy()
      throw error
    }
    return engine
  }

  async load() {
    // The glue keeps the instance in a module variable, so a second engine needs a second copy of the module.
    delete require.cache[require.resolve(runtimePath)]
    const runtime = require(runtimePath)
    const { exports } = new WebAssembly.Instance(await compiled, { './query_engine_bg.js': runtime })
    runtime.__wbg_set_wasm(exports)
    this.driver = bindAdapter(this.database)
    const logQueries = Boolean(env.LOG_QUERIES)
    const options = {
      datamodel: schemaText,
      env: {},
      logQueries,
      ignoreEnvVarErrors: true,
      datasourceOverrides: {},
      logLevel: logQueries ? 'info' : 'error',
      configDir: dirname(schemaPath),
      engineProtocol: 'json',
    }
    const log = (line) => logQueries && process.stdout.write(`${line}\n`)
    this.wasm = new runtime.QueryEngine(options, log, this.driver)
    await this.guarded(() => this.wasm.connect('{}'))
  }

  // A panic is thrown outside of any promise, so whoever waits for this engine must be told by hand.
  guarded(call) {
    return new Promise((resolved, rejected) => {
      this.inFlight.add(rejected)
      call().then(resolved, rejected).finally(() => this.inFlight.delete(rejected))
    })
  }

  async query(text, id) {
    if (id !== undefined && !this.transactions.has(id)) throw unknownTransaction()
    const answer = await this.guarded(() => this.wasm.query(text, '{}', id))
    return answer.startsWith('{"errors":') ? this.explain(answer, id) : answer
  }

  async begin(options) {
    const wait = Number(options.max_wait) || 2000
    const started = Date.now()
    const pending = this.guarded(() => this.wasm.startTransaction(quoted(options), '{}')).then((answer) => {
      const { id } = JSON.parse(answer)
      if (id) this.transactions.set(id, started)
      return answer
    })
    // The WASM engine does not watch max_wait.
    let timer
    const late = new Promise((resolved) => (timer = setTimeout(resolved, wait)))
    const answer = await Promise.race([pending, late])
    clearTimeout(timer)
    if (answer !== undefined) return this.explain(answer)
    pending.then((text) => this.end('rollback', JSON.parse(text).id)).catch(() => {})
    const error = 'Unable to start a transaction in the given time.'
    throw new Refusal(`Transaction API error: ${error}`, { code: 'P2028', meta: { error }, error })
  }

  async end(verb, id) {
    if (!this.transactions.has(id)) throw unknownTransaction()
    const call = verb === 'commit' ? 'commitTransaction' : 'rollbackTransaction'
    const answer = await this.guarded(() => this.wasm[call](id, '{}'))
    this.forget(id)
    return this.explain(answer, id)
  }

  // The engine remembers the last hundred that ended; of older ones it never heard.
  forget(id) {
    if (!this.ended.includes(id)) this.ended.push(id)
    if (this.ended.length > 50) this.transactions.delete(this.ended.shift())
  }

  // Errors are rare: here parsing is fine. Two are not what the native engine would say.
  explain(answer, id) {
    if (id !== undefined && answer.includes('however 0 ms passed')) {
      const passed = Date.now() - (this.transactions.get(id) ?? Date.now())
      answer = answer.replaceAll('however 0 ms passed', `however ${passed} ms passed`)
    }
    if (!answer.includes('"P2036"')) return answer
    const parsed = JSON.parse(answer)
    const [entry] = parsed.errors ?? [{ user_facing_error: parsed }]
    if (entry.user_facing_error.error_code !== 'P2036') return answer
    const cause = this.driver.errorRegistry.consumeError(entry.user_facing_error.meta?.id)?.error
    delete this.driver.errorRegistry.registeredErrors[entry.user_facing_error.meta?.id]
    throw connectionRefusal(cause, this.database.settings)
  }

  fail(error) {
    const message = `The query engine panicked: ${error.message}`
    for (const reject of this.inFlight) reject(new Refusal(message, { isPanic: true }))
    this.inFlight.clear()
    this.database?.destroy()
  }
}

function unknownTransaction() {
  const reason = "Transaction ID is invalid, refers to an old closed transaction Prisma doesn't have information about"
  const error = `Transaction not found. ${reason} anymore, or was obtained before disconnecting.`
  return new Refusal(`Transaction API error: ${error}`, { code: 'P2028', meta: { error }, error })
}

function connectionRefusal(cause, { host, port, pool }) {
  const text = cause?.message ?? 'unknown error'
  if (text.startsWith('timeout exceeded')) {
    const meta = { connection_limit: pool.max, timeout: pool.connectionTimeoutMillis / 1000 }
    const limits = `connection pool timeout: ${meta.timeout}, connection limit: ${meta.connection_limit}`
    return new Refusal(`Timed out fetching a new connection from the connection pool. (Current ${limits})`, {
      code: 'P2024',
      meta,
    })
  }
  if (['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'ENOENT'].includes(cause?.code)) {
    const meta = { database_host: host, database_port: port }
    const where = `\`${host}:${port}\``
    const message = `Can't reach database server at ${where}\n\nPlease make sure your database server is running at ${where}.`
    return new Refusal(message, { code: 'P1001', meta })
  }
  return new Refusal(`Server has closed the connection. (${text})`, { code: 'P1017' })
}

class NotReady extends Error {}

let current
let starting
async function engine() {
  if (current) return current
  starting ??= Engine.start()
    .then((started) => (current = started))
    .finally(() => (starting = undefined))
  try {
    return await starting
  } catch (error) {
    throw new NotReady(error.message || error.code || String(error))
  }
}

for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => {
    if (error instanceof WebAssembly.RuntimeError) {
      complain('the engine panicked and is started anew')
      current = undefined
      Engine.newest?.fail(error)
    } else {
      complain(`${error?.stack ?? error}`)
      process.exit(1)
    }
  })
}

// --- HTTP ------------------------------------------------------------------------------------------------------------

async function answerQuery(body, id) {
  const request = JSON.parse(body)
  const inTransaction = id !== undefined
  if (request.batch === undefined) {
    const call = translate(request.query)
    return rename(await (await engine()).query(call.text, id), call)
  }
  const calls = request.batch.map(({ query }) => translate(query))
  const together = request.transaction && !inTransaction ? `{"isolationLevel":${quoted(request.isolation_level ?? null)}}` : null
  const text = `{"batch":[${calls.map((call) => call.text).join()}],"transaction":${together}}`
  const answer = await (await engine()).query(text, id)
  const before = '{"batchResult":'
  if (!answer.startsWith(before)) return answer
  return before + renameAll(answer.slice(before.length), calls)
}

// Each part answers under its own root; the client looks for its alias.
function renameAll(text, calls) {
  let from = 0
  let result = ''
  for (const { root, alias } of calls) {
    const before = `{"data":{${quoted(root)}:`
    const at = text.indexOf(before, from)
    if (at < 0) break
    result += `${text.slice(from, at)}{"data":{${quoted(alias)}:`
    from = at + before.length
  }
  result += text.slice(from)
  return calls.some((call) => call.raw) ? result : untag(result)
}

// As the native engine has it: transaction calls fail with a status, the others answer 200 with `errors`.
function transactionStatus(entry) {
  const text = entry.meta?.error ?? entry.message ?? ''
  if (text.startsWith('Transaction not found')) return 404
  if (text.startsWith('Unable to start')) return 504
  return text.startsWith('Transaction already closed') ? 422 : 500
}

async function route(request, body) {
  const path = request.url.split('?')[0]
  if (request.method === 'POST' && path === '/') {
    const id = request.headers['x-transaction-id'] ?? undefined
    try {
      return [200, await answerQuery(body, id)]
    } catch (error) {
      if (error instanceof Refusal) return [200, quoted({ errors: [error.entry] })]
      throw error
    }
  }
  if (request.method === 'GET' && path === '/status') {
    await engine() // which has reached the database by then
    return [200, '{"status":"ok"}']
  }
  const [, id, verb] = /^\/transaction\/(?:start|([^/]+)\/(commit|rollback))$/.exec(path) ?? []
  if (request.method === 'POST' && path.startsWith('/transaction/') && (verb || path.endsWith('/start'))) {
    try {
      const ready = await engine()
      const text = verb ? await ready.end(verb, id) : await ready.begin(JSON.parse(body))
      const answer = JSON.parse(text)
      return answer.error_code ? [transactionStatus(answer), text] : [200, verb ? '{}' : text]
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      const entry = error.entry.user_facing_error
      return [transactionStatus(entry), quoted(entry)]
    }
  }
  if (path === '/metrics') return [501, 'metrics are not available from this build of the engine']
  return [404, 'not found']
}

let lastComplaint
const server = createServer((request, response) => {
  clearTimeout(firstCall)
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('error', () => {})
  response.on('error', () => {})
  request.on('end', async () => {
    let status
    let text
    try {
      ;[status, text] = await route(request, Buffer.concat(chunks).toString('utf8'))
    } catch (error) {
      status = error instanceof NotReady ? 503 : error instanceof SyntaxError ? 400 : 500
      text = error.message || error.code || String(error)
      // Until the database answers, the client asks /status again and again: one line is enough.
      if (status !== 503) complain(text)
      else if (text !== lastComplaint) complain(`not ready: ${(lastComplaint = text)}`)
    }
    const payload = Buffer.from(text)
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': payload.length })
    response.end(payload)
  })
})
// The client decides how long a connection is kept; closing it here would race with its next request.
server.keepAliveTimeout = 0
server.requestTimeout = 0

// What is open at the database is rolled back by the closing of its connections.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))

engine().catch(() => {}) // warm before the first call
server.listen(Number(process.argv[process.argv.indexOf('-p') + 1]), '127.0.0.1')
