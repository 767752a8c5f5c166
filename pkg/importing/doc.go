// Package importing is a command's half of an import: it has old logs (pkg/oldlogs) compared with what a
// store has, and says how that goes.
//
//   - Read goes through logs, leaves out those that the store knows as a whole, and hands the records of the others
//     to a Sink in chunks. What is stored once is the Sink's to say: collector/internal/importer.
//   - Stream is a Sink that is a collector elsewhere, or another process: the Import call of proto/fleet.
//   - Command is what `collector import` and `forwarder import` have in common: options, messages, the summary.
//
// The commands of both programs may import it, and what takes records. It is the one package of pkg that imports
// one of proto, for the commands of both programs make that call.
package importing
