// Package normalize finds, in an event of any record types, who did what to which object,
// with which result and by which program. These are the columns of ausearch's csv format
// and the parts of the sentences of its text format. pkg/output may import it.
//
// The results equal those of the stock tool 3.0.9. Where a record lacks a field or has it
// twice, the result depends on the order in which the stock tool reads fields; the type
// walk follows that order. A walk moves forward only, from field to field and record to
// record, until rewind, first or jump moves it back.
package normalize
