// Package normalize says of an event, whatever its records are, who did what to
// whom, with what result and by which means: the columns of ausearch's csv and
// the words of its text format. pkg/output may import it.
//
// The answers are those of the stock tool (3.0.9), whose order of looking decides
// where a record lacks a field or has it twice. A walk stands for that order: it
// goes forward only, from record to record, until it is taken back.
package normalize
