// Reads a Prisma schema on stdin and prints the SQL that creates it, by Prisma's own schema engine (WASM).
// Usage: node ddl.mjs PACKAGES-DIRECTORY < schema.prisma

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const packages = process.argv[2]
const require = createRequire(join(packages, 'package.json'))

// The engine reports panics to this object, which the Prisma CLI would define.
globalThis.PRISMA_WASM_PANIC_REGISTRY = { message: '', set_message(text) { this.message = text } }

const home = join(packages, 'node_modules/@prisma/schema-engine-wasm')
const engine = await import(pathToFileURL(join(home, 'schema_engine_bg.js')))
const module = await WebAssembly.compile(readFileSync(join(home, 'schema_engine_bg.wasm')))
const instance = await WebAssembly.instantiate(module, { './schema_engine_bg.js': engine })
engine.__wbg_set_wasm(instance.exports)
instance.exports.__wbindgen_start()

const { bindMigrationAwareSqlAdapterFactory } = require('@prisma/driver-adapter-utils')

// An empty schema and a schema file are compared without a database, but the engine insists on a connection and asks
// it for its version first.
class Offline {
  provider = 'postgres'
  adapterName = 'offline'
  async connect() { return this }
  async connectToShadowDb() { return this }
  getConnectionInfo() { return { schemaName: 'public', supportsRelationJoins: true } }
  async executeScript() {}
  async executeRaw() { return 0 }
  async queryRaw() { return { columnNames: ['exists', 'version', 'numeric_version'], columnTypes: [5, 7, 0], rows: [[true, 'PostgreSQL 16.0', 160000]] } }
  async dispose() {}
}

const files = [{ path: 'schema.prisma', content: readFileSync(0, 'utf8') }]
const none = { externalTables: [], externalEnums: [] }

try {
  const factory = bindMigrationAwareSqlAdapterFactory(new Offline())
  const schemaEngine = await engine.SchemaEngine.new({ datamodels: undefined }, () => {}, factory)
  const result = await schemaEngine.diff({
    from: { tag: 'empty' },
    to: { tag: 'schemaDatamodel', files },
    script: true,
    shadowDatabaseUrl: null,
    exitCode: null,
    filters: none,
  })
  process.stdout.write(result.stdout ?? '')
} catch (error) {
  process.stderr.write(globalThis.PRISMA_WASM_PANIC_REGISTRY.message || String(error?.message ?? error))
  process.exitCode = 1
}
