// Package rows codes text by what each line differs in from a line before it. Audit records are of few shapes: of one shape the
// names stay, of one process nearly all values do. A line is taken for a row: the template that it is of, with its values. What is coded of
// it are the values that are not those of the last row of the same template and process. That is a fifth of what is left of it by
// compression that knows bytes only.
//
// A text is coded by itself (one frame of a group), with a Table of templates that many texts share. What comes out are streams of
// bytes of one kind each, to be compressed by the caller. Any text comes back byte for byte, whatever it is; one that
// is no audit log is coded badly. Only store/group imports the package. FORMAT.md beside it says what the bytes are.
//
// Decoding believes nothing: it gives no more bytes than the caller allows, and takes some MiB beside them.
package rows
