package apiserver

import "sync"

// onceMade makes something when it is first asked for. Unlike with sync.OnceValues a failure is not kept: the table may have been busy.
func onceMade[T any](produce func() (T, error)) func() (T, error) {
	var mu sync.Mutex
	var made T
	var is bool
	return func() (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if is {
			return made, nil
		}
		got, err := produce()
		if err == nil {
			made, is = got, true
		}
		return got, err
	}
}
