// Package lines reads audit records that others have made: from a pipe (standard input,
// where a stock dispatcher may also write its binary format), from a file that ends, plain
// or compressed, or from a log that is followed through its rotations. It knows nothing of
// what becomes of them; forwarder/internal/agent may import it.
//
// Input.Run reads in a goroutine of its own and hands on chunks. It never holds more than
// two of them: while the consumer keeps both, nothing is read, and the records stay where
// they come from. FORMAT.md describes the binary format and the state file of a followed
// log.
package lines
