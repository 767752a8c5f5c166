// Package lines reads audit records that other programs have written: from a pipe
// (standard input, where a stock dispatcher may also write its binary format), from a file
// that ends, plain or compressed, or from a log that it follows through its rotations. It
// does not know where the records go; forwarder/internal/agent may import it.
//
// Input.Run reads in its caller's goroutine and hands chunks to a consumer in another.
// There are only two chunks: while the consumer keeps both, Run reads nothing, and the
// records stay where they come from. FORMAT.md describes the binary format and the state
// file of a followed log.
package lines
