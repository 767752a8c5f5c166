package clickhouse

import (
	"strings"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// indexed are the fields that have a column of their own: all that events are searched by, and those of an index that summaries are added up from.
var indexed = func() (list []query.Field) {
	for f := range query.Field(query.NumFields) {
		list = append(list, f)
	}
	return append(list, query.FieldShape, query.FieldCWD, query.FieldFileAgain, query.FieldKeyAgain, query.FieldClaim, query.FieldLists, query.FieldCall, query.FieldLogin)
}()

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

// hasColumn says whether a field has a column.
func hasColumn(f query.Field) bool { return int(f) < len(columnOf) && columnOf[f] >= 0 }

// several says whether an event may have several values of a field: its column is an array of them, each once. Any other field's has the value, as
// stored makes it.
func several(f query.Field) bool {
	return f == query.FieldType || f == query.FieldFileAgain || f == query.FieldKeyAgain || f.IsList()
}

// stored is a value as a column has it that is no array: a text that is empty is no value.
func stored(v string) string {
	if v == "" || v[0] == 0 {
		return "\x00" + v
	}
	return v
}

// valueOf undoes stored.
func valueOf(text string) string { return strings.TrimPrefix(text, "\x00") }

// others is the column of the values that other records have in fields (query.Field.Other): an array of otherOf.
const others = "f_other"

// otherOf is what others has of a value of one of these fields.
func otherOf(f query.Field, v string) string { return otherName(f) + v }

// otherName begins what others has of a field.
func otherName(f query.Field) string { return nameField(f).String() + "=" }

// nameField is the field whose name records have for one that Other returns; any other field is itself.
func nameField(f query.Field) query.Field {
	if f.IsOther() {
		return f - query.Field(0).Other()
	}
	return f
}

// The bits of the column apart: of an event that has one, what is counted has to be worked out by whoever reads it. See query.Apart.
const (
	apartOdd   = 1 << iota // it is odd
	apartNamed             // a record names a user or group
)

// apartOf is the bit of an event that has a value of the field; 0: none.
func apartOf(f query.Field) uint8 {
	switch {
	case f == query.FieldOdd:
		return apartOdd
	case nameField(f) >= query.FieldAUIDName && nameField(f) <= query.FieldEGIDName:
		return apartNamed
	}
	return 0
}

// key is what no two events have in common, in the order in which a table has them.
const key = "node, ts_ms, serial, batch, store, seq"

// order is how an answer's rows come, and what tells a row from all others: of events that are equal in time, node and serial, the one that was
// stored earlier comes first.
const order = "ts_ms, node, serial, batch, store, seq"

// read are the columns that make an event.
const read = order + ", host, counted, text, received, later, transport, sender, proved"
