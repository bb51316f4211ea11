package jobs

// Disbelieved is a record that is done as somebody sees it who does not believe its
// result, for the reason err: it has failed of it. Nothing is written; the job may
// be opened again.
func Disbelieved(r Record, err error) Record {
	r.State, r.Result = Failed, nil
	r.Failure = &Failure{ClassPermanent, KindOf(err), err.Error()}
	return r
}
