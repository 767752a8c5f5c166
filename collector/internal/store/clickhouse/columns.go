package clickhouse

import (
	"strings"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// indexed are the fields that have a column of their own, an array of an event's values: those that searches ask for. What is asked
// of others is decided by the matcher alone. The list only grows, each time with a new version of the tables.
var indexed = []query.Field{
	query.FieldType, query.FieldKey, query.FieldPID, query.FieldPPID, query.FieldAUID, query.FieldUID, query.FieldEUID, query.FieldSession,
	query.FieldSyscall, query.FieldSuccess, query.FieldComm, query.FieldExe, query.FieldFile, query.FieldHost, query.FieldTerminal,
	query.FieldAcct, query.FieldAUIDName, query.FieldUIDName, query.FieldClaim,
}

// columnOf is the place of a field in indexed, -1 where it has no column.
var columnOf = func() (of [query.NumIndexed]int) {
	for i := range of {
		of[i] = -1
	}
	for i, f := range indexed {
		of[f] = i
	}
	return of
}()

// column is the name of a field's column.
func column(f query.Field) string { return "f_" + strings.ReplaceAll(f.String(), "-", "_") }

// order is how an answer's rows come, and what tells a row from all others: of events that are equal in time, node and serial, the one that was
// stored earlier comes first.
const order = "ts_ms, node, serial, batch, store, seq"

// read are the columns that make an event.
const read = order + ", host, counted, text, received, later, transport, sender, proved"
