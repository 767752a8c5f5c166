// Package record parses one line of an audit log, or one message of the audisp-remote
// protocol, into header, body, nested msg='…', enriched tail and the fields of each. It
// allocates nothing and loses nothing: Raw is the whole line, and every other slice
// points into it. FORMAT.md describes the line. Any package except tables may import it.
package record
