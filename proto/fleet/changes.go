package fleet

// QueryVersion is the version of the query service (Query).
const QueryVersion = 8

// Changes reports whether a call of the query service, by its full name, changes what the collector
// keeps, or has it speak to others: to ask is not enough of a right for it.
func Changes(method string) bool {
	switch method {
	case Query_ChangeHosts_FullMethodName, Query_ChangeHolds_FullMethodName, Query_AcceptLog_FullMethodName, Query_TestAlert_FullMethodName,
		Query_Import_FullMethodName, Query_UndoImport_FullMethodName, Query_ForgetCollector_FullMethodName:
		return true
	}
	return false
}
