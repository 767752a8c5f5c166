package search

import (
	"fmt"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/query"
)

func (p *parser) group(opt, v string) error {
	fields := map[string][]query.Field{
		"--gid": {query.FieldGID}, "--gid-effective": {query.FieldEGID}, "--gid-all": {query.FieldGID, query.FieldEGID},
	}[opt]
	if isDigit(v) {
		n, why := wholeNumber(v, maxID)
		if why != "" {
			return usagef("Numeric group ID conversion error (%s) for %s", why, v)
		}
		p.term(opt, query.Term{Fields: fields, Text: strconv.FormatUint(n, 10)})
		return nil
	}
	id, ok := p.env.GroupID(v)
	switch {
	case p.env.Strangers && !noName(v):
		number := ""
		if ok {
			number = strconv.FormatUint(uint64(id), 10)
		}
		p.named(opt, "group", v, number, fields)
	case ok: // the stock tool knows no names of groups in records
		p.term(opt, query.Term{Fields: fields, Text: strconv.FormatUint(uint64(id), 10)})
	case opt == "--gid-effective":
		return usagef("Effective group ID is non-numeric and unknown (%s)", v)
	default:
		return usagef("Group ID is non-numeric and unknown (%s)", v)
	}
	return nil
}

// named looks for a user or group by name where records carry names, and by the
// number that it has here, if it has one, where they do not.
func (p *parser) named(opt, what, name, number string, numbers []query.Field) {
	var fields []query.Field
	if number != "" {
		if number != "0" {
			p.o.LocalIDs = append(p.o.LocalIDs, fmt.Sprintf("NOTE - %s %s is %s on this machine: where a host's records carry no names, those with this number are found", what, name, number))
		}
		fields = append(fields, numbers...)
	} else {
		p.o.Notes = append(p.o.Notes, fmt.Sprintf("NOTE - no %s %s here: looking for it in records that carry names", what, name))
	}
	for _, f := range numbers {
		fields = append(fields, f.Name())
	}
	p.term(opt, query.Term{Fields: fields, Op: query.OpUser, Text: name, Number: number})
}

func (p *parser) user(opt, v string) error {
	numbers := map[string][]query.Field{
		"--uid": {query.FieldUID}, "--uid-effective": {query.FieldEUID}, "--loginuid": {query.FieldAUID},
		"--uid-all": {query.FieldUID, query.FieldEUID, query.FieldAUID},
	}[opt]
	if isDigit(v) || opt == "--loginuid" && isNegative(v) {
		n, why := wholeNumber(v, maxID)
		if isNegative(v) {
			signed, ok := signedNumber(v, 32)
			if !ok {
				return usagef("Error converting %s", v)
			}
			n, why = uint64(uint32(signed)), ""
		}
		if why != "" {
			return usagef("Numeric user ID conversion error (%s) for %s", why, v)
		}
		p.term(opt, query.Term{Fields: numbers, Text: strconv.FormatUint(n, 10)})
		return nil
	}
	id, ok := p.env.UserID(v)
	if !ok && p.env.Strangers && !noName(v) {
		p.named(opt, "account", v, "", numbers)
		return nil
	}
	if !ok {
		what := map[string]string{"--uid": "Effective user ID", "--loginuid": "Login user ID"}[opt]
		if what == "" {
			what = "User ID"
		}
		return usagef("%s is non-numeric and unknown (%s)", what, v)
	}
	p.named(opt, "account", v, strconv.FormatUint(uint64(id), 10), numbers)
	return nil
}
