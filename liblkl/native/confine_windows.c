// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#ifdef _WIN32

/* Windows 10, for the policies of a process. */
#define _WIN32_WINNT 0x0A00

#include "confine_windows.h"

#include <sddl.h>
#include <stdbool.h>
#include <stdlib.h>

static int last_error(void)
{
	DWORD error = GetLastError();

	return error ? -(int)error : -ERROR_INVALID_FUNCTION;
}

/* ---- The token --------------------------------------------------------- */

static int lower_integrity(HANDLE token)
{
	TOKEN_MANDATORY_LABEL label = {
	    .Label.Attributes = SE_GROUP_INTEGRITY,
	};
	int error = 0;

	/* S-1-16-4096: low */
	if (!ConvertStringSidToSidW(L"S-1-16-4096", &label.Label.Sid))
		return last_error();
	if (!SetTokenInformation(token, TokenIntegrityLevel, &label,
				 sizeof(label) + GetLengthSid(label.Label.Sid)))
		error = last_error();
	LocalFree(label.Label.Sid);
	return error;
}

/* Groups as they are, to be used for denial only; the caller frees them. */
static int read_groups(HANDLE token, TOKEN_GROUPS **groups)
{
	DWORD size = 0;

	GetTokenInformation(token, TokenGroups, NULL, 0, &size);
	*groups = malloc(size);
	if (!*groups)
		return -ERROR_NOT_ENOUGH_MEMORY;
	if (!GetTokenInformation(token, TokenGroups, *groups, size, &size)) {
		free(*groups);
		return last_error();
	}
	return 0;
}

/* That of the session's logon stays, by which it has its own window station. */
static DWORD drop_kept(TOKEN_GROUPS *groups)
{
	DWORD count = 0;

	for (DWORD i = 0; i < groups->GroupCount; i++) {
		SID_AND_ATTRIBUTES group = groups->Groups[i];

		if (group.Attributes & (SE_GROUP_LOGON_ID | SE_GROUP_INTEGRITY))
			continue;
		groups->Groups[count++] = group;
	}
	return count;
}

/* With groups for denial only, or with its groups for as long as it loads. */
static int make_token(bool loading, HANDLE *restricted)
{
	TOKEN_GROUPS *groups;
	HANDLE own;
	int error;

	if (!OpenProcessToken(GetCurrentProcess(),
			      TOKEN_DUPLICATE | TOKEN_QUERY |
				  TOKEN_ASSIGN_PRIMARY | TOKEN_ADJUST_DEFAULT,
			      &own))
		return last_error();
	error = read_groups(own, &groups);
	if (!error) {
		DWORD count = loading ? 0 : drop_kept(groups);

		if (!CreateRestrictedToken(own, DISABLE_MAX_PRIVILEGE, count,
					   groups->Groups, 0, NULL, 0, NULL,
					   restricted))
			error = last_error();
		free(groups);
	}
	CloseHandle(own);
	if (!error) {
		error = lower_integrity(*restricted);
		if (error)
			CloseHandle(*restricted);
	}
	return error;
}

/* What the first thread loads libraries by, until lkn_drop_rights(). */
static int lend_rights(HANDLE thread)
{
	HANDLE token, lent;
	int error = make_token(true, &token);

	if (error)
		return error;
	if (!DuplicateTokenEx(token, TOKEN_IMPERSONATE | TOKEN_QUERY, NULL,
			      SecurityImpersonation, TokenImpersonation,
			      &lent)) {
		error = last_error();
	} else {
		if (!SetThreadToken(&thread, lent))
			error = last_error();
		CloseHandle(lent);
	}
	CloseHandle(token);
	return error;
}

int lkn_drop_rights(void)
{
	return RevertToSelf() ? 0 : last_error();
}

/* ---- The job ----------------------------------------------------------- */

static int make_job(uint64_t memory, HANDLE *job)
{
	JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {
	    .BasicLimitInformation.LimitFlags =
		JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE |
		JOB_OBJECT_LIMIT_ACTIVE_PROCESS | JOB_OBJECT_LIMIT_JOB_MEMORY |
		JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION,
	    .BasicLimitInformation.ActiveProcessLimit = 1,
	    .JobMemoryLimit = (SIZE_T)memory,
	};
	JOBOBJECT_BASIC_UI_RESTRICTIONS screen = {
	    .UIRestrictionsClass = JOB_OBJECT_UILIMIT_DESKTOP |
				   JOB_OBJECT_UILIMIT_DISPLAYSETTINGS |
				   JOB_OBJECT_UILIMIT_EXITWINDOWS |
				   JOB_OBJECT_UILIMIT_GLOBALATOMS |
				   JOB_OBJECT_UILIMIT_HANDLES |
				   JOB_OBJECT_UILIMIT_READCLIPBOARD |
				   JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS |
				   JOB_OBJECT_UILIMIT_WRITECLIPBOARD,
	};
	int error;

	*job = CreateJobObjectW(NULL, NULL);
	if (!*job)
		return last_error();
	if (SetInformationJobObject(*job, JobObjectExtendedLimitInformation,
				    &limits, sizeof(limits)) &&
	    SetInformationJobObject(*job, JobObjectBasicUIRestrictions, &screen,
				    sizeof(screen)))
		return 0;
	error = last_error();
	CloseHandle(*job);
	return error;
}

/* ---- The process ------------------------------------------------------- */

/* Frees what was made of it, too. */
static void free_attributes(LPPROC_THREAD_ATTRIBUTE_LIST list)
{
	DeleteProcThreadAttributeList(list);
	free(list);
}

/* What list points to must live until the process is started. */
static int make_attributes(const HANDLE *handles, DWORD count, HANDLE *job,
			   DWORD64 *policy, LPPROC_THREAD_ATTRIBUTE_LIST *list)
{
	SIZE_T size = 0;

	*policy =
	    PROCESS_CREATION_MITIGATION_POLICY_WIN32K_SYSTEM_CALL_DISABLE_ALWAYS_ON |
	    PROCESS_CREATION_MITIGATION_POLICY_EXTENSION_POINT_DISABLE_ALWAYS_ON |
	    PROCESS_CREATION_MITIGATION_POLICY_IMAGE_LOAD_NO_REMOTE_ALWAYS_ON |
	    PROCESS_CREATION_MITIGATION_POLICY_IMAGE_LOAD_NO_LOW_LABEL_ALWAYS_ON;
	InitializeProcThreadAttributeList(NULL, 3, 0, &size);
	*list = malloc(size);
	if (!*list)
		return -ERROR_NOT_ENOUGH_MEMORY;
	if (!InitializeProcThreadAttributeList(*list, 3, 0, &size)) {
		free(*list);
		return last_error();
	}
	/* In the job from its first instruction on. */
	if (UpdateProcThreadAttribute(
		*list, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, (PVOID)handles,
		count * sizeof(*handles), NULL, NULL) &&
	    UpdateProcThreadAttribute(*list, 0, PROC_THREAD_ATTRIBUTE_JOB_LIST,
				      job, sizeof(*job), NULL, NULL) &&
	    UpdateProcThreadAttribute(*list, 0,
				      PROC_THREAD_ATTRIBUTE_MITIGATION_POLICY,
				      policy, sizeof(*policy), NULL, NULL))
		return 0;
	size = GetLastError();
	free_attributes(*list);
	return -(int)size;
}

int lkn_start_confined(const wchar_t *program, wchar_t *command,
		       const HANDLE *handles, DWORD count,
		       const HANDLE standard[3], uint64_t memory,
		       struct lkn_started *started)
{
	STARTUPINFOEXW startup = {
	    .StartupInfo.cb = sizeof(startup),
	    .StartupInfo.dwFlags = STARTF_USESTDHANDLES,
	    .StartupInfo.hStdInput = standard[0],
	    .StartupInfo.hStdOutput = standard[1],
	    .StartupInfo.hStdError = standard[2],
	};
	PROCESS_INFORMATION process;
	HANDLE token, job;
	DWORD64 policy;
	int error = make_token(false, &token);

	if (error)
		return error;
	error = make_job(memory, &job);
	if (error)
		goto close_token;
	error = make_attributes(handles, count, &job, &policy,
				&startup.lpAttributeList);
	if (error)
		goto close_job;
	if (!CreateProcessAsUserW(token, program, command, NULL, NULL, TRUE,
				  EXTENDED_STARTUPINFO_PRESENT |
				      CREATE_NO_WINDOW | CREATE_SUSPENDED |
				      CREATE_UNICODE_ENVIRONMENT,
				  NULL, NULL, &startup.StartupInfo, &process))
		error = last_error();
	free_attributes(startup.lpAttributeList);
	if (error)
		goto close_job;
	error = lend_rights(process.hThread);
	if (!error && ResumeThread(process.hThread) == (DWORD)-1)
		error = last_error();
	CloseHandle(process.hThread);
	if (error) {
		/* The job kills it. */
		CloseHandle(process.hProcess);
		goto close_job;
	}
	CloseHandle(token);
	*started =
	    (struct lkn_started){process.hProcess, job, process.dwProcessId};
	return 0;

close_job:
	CloseHandle(job);
close_token:
	CloseHandle(token);
	return error;
}

#endif
