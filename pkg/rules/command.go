package rules

// OpKind is the kind of one operation of a command line.
type OpKind int

// The operations, with what they read from an Op.
const (
	OpAdd               OpKind = iota + 1 // Rule
	OpDelete                              // Rule
	OpDeleteAll                           // Key: only rules with it, "" all
	OpList                                // Key, Interpret
	OpStatus                              // Interpret
	OpSetEnabled                          // Value 0, 1, 2
	OpSetFailure                          // Value 0, 1, 2
	OpSetRate                             // Value
	OpSetBacklog                          // Value
	OpSetBacklogWait                      // Value, jiffies
	OpResetLost                           //
	OpResetBacklogWait                    //
	OpLoginUIDImmutable                   //
	OpMessage                             // Text
	OpEquivalent                          // Mount, Subtree
	OpTrim                                //
	OpSignal                              // Signal
	OpReadFile                            // File
	OpVersion                             //
	OpHelp                                //
	OpIgnoreErrors                        // -i: rule files go on, exit code 0
	OpContinue                            // -c: rule files go on, exit code 1 when one failed
)

// Op is one operation. Its Kind decides which fields are set.
type Op struct {
	Kind      OpKind
	Rule      *Rule
	Value     uint32
	Key       string
	Interpret bool
	Text      string
	Mount     string
	Subtree   string
	Signal    string // TERM, HUP, USR1, USR2 or CONT
	File      string
}

// Command is a parsed command line: its operations in order.
type Command struct {
	Ops []Op
	// Warnings are for the user to see: what was taken, though it may not mean
	// what was meant.
	Warnings []Warning
	// Deprecated is set for a line with the action "possible": auditctl prints a message,
	// does nothing and succeeds.
	Deprecated bool
}

// Warning is a warning about one argument; the argument's index is -1 if it concerns
// none.
type Warning struct {
	Msg string
	Arg int
	// Wraps says that a number does not fit into 32 bits and another number is used
	// instead.
	Wraps bool
}

// Rule returns the rule that the line adds or deletes, or nil if it does neither. The
// rule is part of c.
func (c *Command) Rule() *Rule {
	for i := range c.Ops {
		if c.Ops[i].Rule != nil {
			return c.Ops[i].Rule
		}
	}
	return nil
}

// Has reports whether the line contains an operation of that kind.
func (c *Command) Has(kind OpKind) bool {
	for i := range c.Ops {
		if c.Ops[i].Kind == kind {
			return true
		}
	}
	return false
}
