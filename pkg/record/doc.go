// Package record parses one line of an audit log, or one message of the
// audisp-remote protocol, into slices of it: header, body, nested msg='…' and
// enriched tail, and the fields of each. Nothing is allocated and nothing is
// lost: Raw is the line, and every other slice points into it. FORMAT.md
// describes the line. It may be imported by any package but tables.
package record
