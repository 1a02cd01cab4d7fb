"""A producer on FastAPI: ``uvicorn examples.fastapi_app.main:app``, or gunicorn with workers of uvicorn."""
