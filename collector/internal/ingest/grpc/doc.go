// Package grpc takes records in by the Ingest service (proto/fleet/ingest.proto): gRPC over
// TLS 1.3 with certificates at both ends, for forwarders of ours. Who is at the other end is
// pkg/pki's to say; what becomes of records is intake's; that each is stored once is the
// journal's, which knows them by stream and offset. Here are the connections, their limits
// and what is answered. The collector's server wires it and is the only one to import it.
//
// A connection has gRPC's goroutines, and two for each stream: one receives and submits,
// the handler's answers. What a batch holds of memory is bounded twice: by intake for all,
// by MaxInFlight for a stream. Lock order: session.mu before nothing.
package grpc
