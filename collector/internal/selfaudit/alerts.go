package selfaudit

// Alert is an alert that has begun to fire, or is over.
type Alert struct {
	Condition, Severity, State string
	Host                       string // "": it is about no host
	More                       string // its other labels, in a word: "cause=kernel,hop=kernel"
	Value                      string
	Omitted                    int // how many more begin or end at once, and have no records
}

// Alert stores that an alert has begun or is over.
func (r *Records) Alert(a Alert) {
	host, more := "", ""
	if a.Host != "" {
		host = " host=" + encodeName(a.Host)
	}
	if a.More != "" {
		more = " about=" + encodeName(a.More)
	}
	r.Add("DAEMON_ERR", "op=alert condition=%s severity=%s state=%s%s%s value=%s omitted=%d informative=yes res=success",
		a.Condition, a.Severity, a.State, host, more, encodeName(a.Value), a.Omitted)
}
